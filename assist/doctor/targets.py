"""Which target a stack has: this machine, or the hosts of an inventory."""

from collections.abc import Sequence
from pathlib import Path

from assist import snapshot
from assist.doctor import Target
from assist.doctor.local import Local
from assist.paths import Paths
from stackfile import StackFileError, load_stack, stack_file


class TargetError(ValueError):
    """The doctor cannot tell what to examine; the message has the remedy."""


def choose(
    stack: str, layout: Paths, hosts: Sequence[str], inventories: Sequence[str], *, quick: bool
) -> Target:
    """Return the target of ``stack``; without one, or for a stack of target local, it is this machine.

    Raises StackFileError, and TargetError for a target that cannot be examined yet or a wrong option.
    """
    file = stack_file(stack, layout.source) if stack else None
    target = "local" if file is None or _broken_here(file, layout) else load_stack(file).target
    if target == "hosts" and file is not None:
        from assist.doctor.hosts import Hosts

        return Hosts.of(file, layout, hosts, inventories, quick=quick)
    if target != "local":
        raise TargetError(f"assist doctor cannot examine target {target} yet: use kubectl describe and logs")
    if hosts or inventories:
        raise TargetError(
            f"--host and --inventory are for stacks of target hosts; {stack or 'this one'} is not"
        )
    return Local(layout, quick)


def _broken_here(file: Path, layout: Paths) -> bool:
    """Return whether this is the stack that runs here and cannot be read: then that is a finding."""
    try:
        load_stack(file)
    except StackFileError:
        return layout.gateway_env.exists() and snapshot.settings(layout).get("ASSIST_STACK") == str(file)
    return False

"""The memory that this machine, or the container that the command runs in, has left for the service."""

from pathlib import Path

import psutil

from assist.findings import Finding, ok, problem
from stackfile import ResolvedStack
from stackfile.memory import Fitting, Use
from stackfile.memory_checks import described, smaller, use_resolved

MIB = 2**20
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
# The files of a control group's limit and use, and the key of its reclaimable file pages (man 7 cgroups).
_FILES = {
    _V1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    _V2: ("memory.max", "memory.current", "inactive_file"),
}


def available_mib(membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the MiB that processes of this user can still take: the machine's, or what its cgroups leave."""
    return min([psutil.virtual_memory().available, *_left(membership)]) // MIB


def room_beside(stack: ResolvedStack) -> bool:
    """Return whether the service fits into the memory that is free while another one runs."""
    return available_mib() >= stack.memory.engine_mib + stack.memory.gateway_mib


def finding(stack: ResolvedStack, *, fetched: bool, own_mib: int = 0) -> Finding:
    """Return whether the service's memory is available, with settings that fit where it is not.

    ``fetched``: the model is in the store, so that no loader runs. ``own_mib``: what the running service
    has, which can stop first.
    """
    memory, now = stack.memory, available_mib()
    free, rest = now + own_mib, memory.gateway_mib
    needed = max(memory.engine_mib + rest, 0 if fetched else memory.loader_mib)
    after = f", {free / 1024:.1f} once the running service has stopped" if own_mib and now < needed else ""
    facts = f"{now / 1024:.1f} GiB available{after}, {needed / 1024:.1f} needed"
    if free >= needed:
        return ok("memory", facts)
    use = use_resolved(stack)
    if use.engine == "external" or memory.engine_mib + rest <= free:
        return problem("memory", facts, "Stop other programs, or use a machine with more memory")
    ways = Fitting(lambda each: each.host + rest, free, smaller(use, _precisions(stack, use))).remedies(use)
    remedy = f"In the stack file set {', or '.join(ways)}" if ways else "Choose a smaller model"
    cause = f"{facts}: {described(stack.model.id, use, memory.engine_mib)}"
    return problem("memory", cause, f"{remedy}; or stop other programs")


def _precisions(stack: ResolvedStack, use: Use) -> list[str]:
    offered = stack.accelerator.precisions.get(stack.runtime, ())
    return [name for name in offered if name in use.model.memory_gib]


def _left(membership: Path) -> list[int]:
    """Return the bytes left below each limit of the cgroups that this process is in, version 1 or 2."""
    left: list[int] = []
    for line in membership.read_text("utf-8").splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"}:
            root = _V1 if controllers else _V2
            folder = root / path.lstrip("/")
            # In a container the path may be the host's: its own limit is then at the root.
            folders = [folder, *folder.parents] if folder.is_dir() else [root]
            left += [bytes_ for each in folders if (bytes_ := _left_in(each, root)) is not None]
    return left


def _left_in(folder: Path, root: Path) -> int | None:
    limit, use, reclaimable = _FILES[root]
    try:
        most = (folder / limit).read_text("utf-8").strip()
        taken = int((folder / use).read_text("utf-8"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else int(most) - taken + int(stat.get(reclaimable, 0))

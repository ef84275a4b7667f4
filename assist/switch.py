"""Changes what a running service serves: the new settings first serve beside the old, or nothing changes.

``docs/adr/0015`` has the reasons. Where memory does not allow two engines, the old one stops before the new
one starts, which is said beforehand, and comes back if the new one fails.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import NoReturn

from rich.console import Console

from assist import causes, doctor, memory_check, playbook, probe, processes, snapshot, trial
from assist.causes import Cause
from assist.deployment import Deployment
from assist.paths import Paths

Play = Callable[[str], playbook.Run]


@dataclass(frozen=True)
class Outcome:
    """How a start or a change ended: ``cause`` is None when it serves; ``kept`` is what served before."""

    run: playbook.Run
    cause: Cause | None = None
    kept: bool = False


class LockedError(Exception):
    """Another command is changing the service."""


@contextmanager
def alone(layout: Paths) -> Iterator[None]:
    """Let no two commands change the service at once; SIGTERM is as SIGINT. Raises LockedError."""
    layout.home.mkdir(mode=0o755, exist_ok=True)
    with snapshot.locked(layout) as free:
        if not free:
            raise LockedError("another `make up` is at work here; wait until it has ended")
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def recover(layout: Paths, progress: Console) -> None:
    """Go back to what served where an earlier change was killed half way. Raises NotServingError."""
    if layout.previous.exists():
        progress.print("The last change was interrupted: going back to what served before.", highlight=False)
        _go_back(layout, "the last change was interrupted")
    # Where supervisord itself has ended, these are all that it had started: they would hold the ports.
    processes.end_strays(layout)


def run(deployment: Deployment, play: Play, progress: Console) -> Outcome:
    """Start or change the service with ``play``, which takes Ansible's tags, and go back when that fails."""
    if not _changes(deployment) or not serves(deployment.layout):
        return _outcome(deployment, play(""))
    prepared = play("prepare")
    if not prepared.succeeded:
        return _failed(deployment, prepared, Cause(_text(prepared), "Correct that, then: make up"))
    if not _changes(deployment):
        return _outcome(deployment, _joined(prepared, play("")))
    new_engine = deployment.needs_triton and "triton" in _changes(deployment)
    if new_engine and not memory_check.room_beside(deployment.stack):
        progress.print(
            "There is not enough memory for a second engine, so requests wait or fail until the new one has "
            "started; if it does not start, the old one does.",
            highlight=False,
        )
        return _replace(deployment, prepared, play, progress)
    since = time.monotonic()
    try:
        with trial.beside(deployment, own_engine=new_engine) as attempt:
            with progress.status("Trying the new settings beside the running service"):
                attempt.run()
                bridged = attempt.bridge(deployment)
            if not bridged:
                progress.print("The running gateway cannot share its port: requests fail for some seconds.")
            tried = {**prepared.seconds, "trial": time.monotonic() - since}
            return _replace(deployment, replace(prepared, seconds=tried), play, progress)
    except trial.TrialError as error:
        return _failed(deployment, prepared, error.cause)


def _replace(deployment: Deployment, prepared: playbook.Run, play: Play, progress: Console) -> Outcome:
    """Run the whole playbook; on any failure, a signal too, put back what served."""
    layout = deployment.layout
    snapshot.save(layout)
    try:
        played = _joined(prepared, play(""))
        cause = _verdict(deployment, played)
    except BaseException as error:
        progress.print("Going back to what served before.", highlight=False)
        _go_back(layout, f"the change ended with {type(error).__name__}")
        raise
    if cause is None:
        snapshot.drop(layout)
        snapshot.forget_failure(layout)
        return Outcome(played)
    _go_back(layout, cause.text)
    return _failed(deployment, played, cause)


def _go_back(layout: Paths, why: str) -> None:
    """Put back what served. Raises NotServingError, with both reasons and the way out, where that fails."""
    try:
        snapshot.restore(layout)
    except probe.NotServingError as error:
        raise probe.NotServingError(
            f"{why}; and what served before does not start again: {error}. Correct that, then: make down,"
            " make up"
        ) from error


def _verdict(deployment: Deployment, played: playbook.Run) -> Cause | None:
    """Return what is wrong with the programs that supervisord runs, leaving aside those that bridge."""
    if not played.succeeded:
        logs = (deployment.layout.log / f"{name}.log" for name in deployment.programs)
        found = next(filter(None, map(causes.of, logs)), None) if _text(played).startswith("Verify") else None
        return found or Cause(_text(played), "Correct that, then: make up")
    try:
        snapshot.wait(deployment.layout)
        if deployment.needs_triton and probe.status(probe.triton_url(deployment)) != 200:
            return Cause(probe.why(deployment.layout, "triton"), "assist logs triton")
    except probe.NotServingError as error:
        return Cause(str(error), "assist logs")
    finding = doctor.completion(deployment)
    return None if finding.status == "ok" else Cause(finding.cause, finding.remedy)


def _failed(deployment: Deployment, played: playbook.Run, cause: Cause) -> Outcome:
    snapshot.remember_failure(deployment.layout, deployment.stack.name, cause.text, cause.remedy)
    return Outcome(replace(played, succeeded=False), cause, kept=True)


def _outcome(deployment: Deployment, played: playbook.Run) -> Outcome:
    if not played.succeeded:
        return Outcome(played, Cause(_text(played), "make status"))
    snapshot.forget_failure(deployment.layout)
    return Outcome(played)


def _text(played: playbook.Run) -> str:
    return "; ".join(played.failures) or "the playbook failed"


def _joined(first: playbook.Run, second: playbook.Run) -> playbook.Run:
    names = first.seconds.keys() | second.seconds.keys()
    seconds = {name: first.seconds.get(name, 0.0) + second.seconds.get(name, 0.0) for name in names}
    return replace(
        second, seconds=seconds, changed=first.changed + second.changed,
        changes=(*first.changes, *second.changes),
    )  # fmt: skip


def serves(layout: Paths) -> bool:
    """Return whether there is a service to lose: it is ready now."""
    return layout.gateway_env.exists() and probe.status(f"{snapshot.url(layout)}/ready") == 200


def _changes(deployment: Deployment) -> set[str]:
    """Return the programs that a run of the playbook would restart, start or end."""
    revisions = deployment.facts()["supervisor"]["revisions"]
    wanted = {name: revisions[name] for name in deployment.programs}
    running = processes.revisions(deployment.layout) if processes.programs(deployment.layout) else {}
    names = wanted.keys() | running.keys()
    return {name for name in names if wanted.get(name) != running.get(name)}

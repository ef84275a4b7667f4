"""What served before a change: kept until the change has ended, so that it can be taken back, also later."""

import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assist import probe, processes
from assist.addresses import local_url
from assist.atomic_write import write_text
from assist.findings import Finding, ok
from assist.paths import Paths

_FAILED = "failed.json"
_READY_S = 600.0


def save(layout: Paths) -> None:
    """Keep the settings of the running service. An earlier snapshot that is still there stays: it served."""
    if layout.previous.exists():
        return
    work = layout.previous.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    for file in _files(layout):
        if file.exists():
            shutil.copy2(file, work / file.name)
    if layout.repository.exists():
        shutil.copytree(layout.repository, work / layout.repository.name, symlinks=True)
    work.rename(layout.previous)


def _files(layout: Paths) -> tuple[Path, ...]:
    return layout.gateway_env, layout.supervisor_config, layout.client_env


def restore(layout: Paths) -> None:
    """Put the kept settings back, restart what they concern, and wait until that serves.

    May be repeated after an interruption. Raises NotServingError when it does not serve again.
    """
    for file in _files(layout):
        if (kept := layout.previous / file.name).exists():
            write_text(file, kept.read_text(encoding="utf-8"), 0o600)
    if (kept := layout.previous / layout.repository.name).exists():
        shutil.rmtree(layout.repository, ignore_errors=True)
        shutil.copytree(kept, layout.repository, symlinks=True)
    if processes.programs(layout) is None:
        drop(layout)  # the machine was restarted or the service stopped: nothing serves that could be lost
        return
    processes.apply(layout)
    wait(layout)
    processes.end_strays(layout)
    drop(layout)


def url(layout: Paths) -> str:
    """Return the address of the gateway that was started last, from its own settings."""
    known = settings(layout)
    return local_url(known["ASSIST_HOST"], int(known["API_EXTERNAL_PORT"]))


def wait(layout: Paths) -> None:
    """Wait until the supervised gateway accepts connections and is ready. Raises NotServingError."""
    end, seen = time.monotonic() + _READY_S, dict[str, set[int]]()
    while not (_takes_part(layout) and probe.status(f"{url(layout)}/ready") == 200):
        probe.check_starts(layout, seen)
        if time.monotonic() > end:
            raise probe.NotServingError(f"not ready after {_READY_S:.0f} s")
        time.sleep(0.1)


def _takes_part(layout: Paths) -> bool:
    """Return whether the gateway that supervisord runs accepts connections, beside others or alone."""
    pid = {program.name: program.pid for program in processes.programs(layout) or []}.get("gateway", 0)
    shares = "ASSIST_HANDOVER_DIR" in settings(layout)
    return (layout.gateways / f"{pid}.sock").exists() if shares else pid > 0


def settings(layout: Paths) -> dict[str, str]:
    """Return the settings of the gateway that was started last."""
    entries = shlex.split(layout.gateway_env.read_text(encoding="utf-8"), comments=True)
    return dict(entry.split("=", 1) for entry in entries)


def drop(layout: Paths) -> None:
    """Forget the snapshot: the change has ended."""
    shutil.rmtree(layout.previous, ignore_errors=True)


def remember_failure(layout: Paths, stack: str, cause: str, remedy: str) -> None:
    """Keep why the last change failed, for ``findings``."""
    document = {"stack": stack, "cause": cause, "remedy": remedy}
    write_text(layout.home / _FAILED, json.dumps(document) + "\n", 0o600)


def forget_failure(layout: Paths) -> None:
    """Forget the last failure: a later change succeeded."""
    (layout.home / _FAILED).unlink(missing_ok=True)


@contextmanager
def locked(layout: Paths) -> Iterator[bool]:
    """Yield whether this process alone may change the service now; others may after the block.

    Children inherit the lock: it holds until a playbook whose command was killed has ended, too.
    """
    lock = os.open(layout.home / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _taken(lock)
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.set_inheritable(lock, True)  # noqa: FBT003 -- the standard library's signature
    return True


def _under_way(layout: Paths) -> bool:
    with locked(layout) as free:
        return not free


def findings(layout: Paths) -> list[Finding]:
    """Return what is known of a change that was interrupted or that failed."""
    if layout.previous.exists():
        if _under_way(layout):
            return [ok("last change", "a change of the running service is under way")]
        cause = "a change of the running service was interrupted half way"
        return [Finding("last change", "problem", cause, "make up", fault="change-interrupted")]
    try:
        failed = json.loads((layout.home / _FAILED).read_text(encoding="utf-8"))
        cause = f"the change to {failed['stack']} failed, and what served before was kept: {failed['cause']}"
        return [Finding("last change", "warning", cause, failed["remedy"], fault="change-failed")]
    except (OSError, ValueError, KeyError):
        return []

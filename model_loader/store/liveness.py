"""Determines whether the run that owns a staging folder is alive; the folder's name identifies its owner.

The name consists of boot id, process namespace, process id, start time of the process and a random part, so a
rename transfers the ownership atomically.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path

from model_loader.download.part_file import UNKNOWN, boot_id

DEAD_AFTER_S = 120.0  # without a heartbeat for this long, an owner on another machine counts as dead


def _namespace() -> str:
    try:
        return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return "0"


def _started(pid: int) -> str | None:
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return None


def owner_name() -> str:
    """Return a new folder name that identifies this process as the owner."""
    pid = os.getpid()
    return ".".join((boot_id()[:8], _namespace(), str(pid), _started(pid) or "0", secrets.token_hex(4)))


def is_alive(folder: Path, *, locked: bool = False) -> bool:
    """Return whether the run that owns ``folder`` may still be working in it.

    ``locked``: the caller holds the lock that a live owner under this kernel would hold. This decides for a
    process of another container, whose id cannot be checked: the successor of a killed pod starts long before
    the heartbeat is overdue.
    """
    fields = folder.name.split(".")
    if len(fields) != 5 or fields[0] == "free":
        return False
    if fields[0] == boot_id()[:8] and fields[1] == _namespace():
        return fields[2].isdigit() and _started(int(fields[2])) == fields[3]
    if locked and fields[0] == boot_id()[:8] != UNKNOWN[:8]:
        return False
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime < DEAD_AFTER_S
    return False

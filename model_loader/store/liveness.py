"""Who owns a staging folder: its name *is* the owner file.

It holds boot, process namespace, process, its start time and a random part: a rename changes owner.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path

from model_loader.download.part_file import UNKNOWN, boot_id

DEAD_AFTER_S = 120.0  # silence after which an owner on another machine counts as dead


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
    """Return a fresh folder name that says who owns it."""
    pid = os.getpid()
    return ".".join((boot_id()[:8], _namespace(), str(pid), _started(pid) or "0", secrets.token_hex(4)))


def is_alive(folder: Path, *, locked: bool = False) -> bool:
    """Say whether the run that owns ``folder`` may still be working in it.

    ``locked``: the caller holds the lock that the owner would hold if it lived under this kernel. That alone
    tells of another container's process: a killed pod's successor comes long before silence would.
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

"""The cache of kits: each in a folder of its own, which is complete or does not exist."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.tools.kits import Kit, cache_folder


def tools_folder() -> Path:
    """Return the folder that holds all kits and nothing else."""
    return cache_folder() / "tools"


def folder_of(kit: Kit) -> Path:
    """Return where the kit lies once it has been fetched."""
    return tools_folder() / f"{kit.name}-{kit.version}-{kit.stamp}"


@contextmanager
def staged(kit: Kit) -> Iterator[Path | None]:
    """Yield an empty folder to fill, which then becomes the kit's; None where another process has just made it.

    When the body raises, nothing of it stays.
    """
    tools = tools_folder()
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / f".{kit.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder_of(kit).is_dir():
            yield None
            return
        # While the lock is held, a partial folder can only be a killed run's.
        for left in tools.glob(f".{kit.name}.part-*"):
            discard(left)
        part = Path(tempfile.mkdtemp(prefix=f".{kit.name}.part-", dir=tools))
        try:
            made = part / "made"
            made.mkdir()
            yield made
            _require_all(kit, made)
            made.rename(folder_of(kit))
        finally:
            discard(part)


def _require_all(kit: Kit, made: Path) -> None:
    absent = [name for name in kit.files if not (made / name).exists()]
    if absent:
        raise RuntimeError(f"{kit.name}: what was fetched lacks {', '.join(absent)}")


def discard(folder: Path) -> None:
    """Remove a folder, read-only parts included."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def remove_all() -> list[Path]:
    """Remove every kit and return which folders there were."""
    there = [path for path in tools_folder().glob("*") if path.is_dir()]
    discard(tools_folder())
    return there

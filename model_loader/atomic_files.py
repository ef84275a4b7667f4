"""The few file operations whose order decides what a power cut leaves.

POSIX promises nothing about unsynced data: a file is synced before its name is published, then its folder.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from model_loader.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
FILE_MODE = 0o444
FOLDER_MODE = 0o755


def store_error(error: OSError, doing: str) -> StoreError:
    """Turn an operating-system error into one that names the remedy."""
    if error.errno in _FULL:
        return StoreError(
            f"{doing}: no space (or inodes, or quota) left. Free some, or prune the store.", full=True
        )
    if error.errno == errno.EROFS:
        return StoreError(f"{doing}: the store is mounted read-only. Mount it writable for the loader.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return StoreError(f"{doing}: permission denied. The loader's user must own the store.")
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return StoreError(f"{doing}: a symbolic link or a foreign file stands in the way; remove it.")
    return StoreError(f"{doing}: {os.strerror(error.errno or 0)}. Check the disk (dmesg).")


@contextlib.contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turn every OSError inside into a StoreError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise store_error(error, doing) from error


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents; an existing symbolic link there is refused. Raises StoreError."""
    with guarded(f"cannot create {path.name}"):
        path.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise StoreError(f"{path} is a symbolic link, which the store never follows; remove it.")


def open_file(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open without ever following a symbolic link at the last name."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def sync_folder(path: Path) -> None:
    """Make the names inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable. Raises StoreError."""
    with guarded(f"cannot sync {path.name}"):
        descriptor = open_file(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_file(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Write a small file durably: temporary file beside it, synced, renamed. Raises StoreError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with guarded(f"cannot write {path.name}"):
        descriptor = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def point(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` in one step: readers see the old or the new one."""
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    with guarded(f"cannot switch {link.name}"):
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(link.parent)

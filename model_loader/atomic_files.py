"""File operations whose order decides what a power loss leaves behind.

POSIX guarantees nothing for unsynced data: a file is synced before its name is published, then its folder.
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


def store_error(error: OSError, action: str) -> StoreError:
    """Return a StoreError that names the remedy; ``action`` is what failed, such as "cannot write X"."""
    if error.errno in _FULL:
        return StoreError(
            f"{action}: no space, inodes or quota left. Free space, or run `model-loader prune`.", full=True
        )
    if error.errno == errno.EROFS:
        return StoreError(f"{action}: the store is mounted read-only. Mount it writable for the loader.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return StoreError(f"{action}: permission denied. The loader's user must own the store.")
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return StoreError(f"{action}: a symbolic link or another file is at this path; remove it.")
    return StoreError(f"{action}: {os.strerror(error.errno or 0)}. Check the disk (dmesg).")


@contextlib.contextmanager
def guarded(action: str) -> Iterator[None]:
    """Turn every OSError inside into a StoreError whose message begins with ``action``."""
    try:
        yield
    except OSError as error:
        raise store_error(error, action) from error


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents; an existing symbolic link is refused. Raises StoreError."""
    with guarded(f"cannot create {path.name}"):
        path.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise StoreError(f"{path} is a symbolic link, which the store does not follow; remove it.")


def open_file(path: Path, flags: int, mode: int = 0o644) -> int:
    """Return a file descriptor; a symbolic link as the last component is not followed. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def sync_folder(path: Path) -> None:
    """Make the entries of folder ``path`` durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable. Raises StoreError."""
    with guarded(f"cannot sync {path.name}"):
        descriptor = open_file(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_file(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Write a small file durably: a temporary file beside it is synced, then renamed. Raises StoreError."""
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
    """Make ``link`` a symbolic link to ``target`` atomically: readers see the old or the new target.

    Raises StoreError.
    """
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    with guarded(f"cannot switch {link.name}"):
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(link.parent)

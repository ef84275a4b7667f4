"""The folder in which a run works, ``<store>/.staging/<plan-digest>/<owner>/``.

A run takes over the bytes of a dead run with one rename, which only one run can win. The flock only keeps two
live runs from doing the same work, because it has no effect on some NFS and Lustre mounts
(huggingface_hub#4306). Between the processes of one kernel flock works even there.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_loader import atomic_files
from model_loader.errors import Stopped, StoreError
from model_loader.retry import RetryPolicy
from model_loader.store.liveness import is_alive, owner_name

HEARTBEAT_S = 10.0
POLL_S = 0.1
STAGING = ".staging"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


@dataclass
class Workspace:
    """The folder of one run: ``parts`` holds downloads in progress, ``tree`` the revision to be published."""

    folder: Path

    @property
    def parts(self) -> Path:
        """Folder of part files."""
        return self.folder / "parts"

    @property
    def tree(self) -> Path:
        """Folder that becomes the revision."""
        return self.folder / "tree"

    def prepare(self) -> None:
        """Create the folders; the tree of an earlier run is emptied (its files are still in ``parts``).

        Raises StoreError.
        """
        atomic_files.make_folder(self.parts)
        for part in self.parts.iterdir():
            part.chmod(0o644)  # sealing the tree made the file read-only if it was linked already
        self.empty_tree()

    def place(self, part: Path, path: str) -> None:
        """Link a complete part file into the tree; it stays in ``parts`` too, so a crash loses nothing.

        Raises StoreError.
        """
        target = self.tree / path
        with atomic_files.guarded(f"cannot place {path}"):
            target.parent.mkdir(parents=True, exist_ok=True, mode=atomic_files.FOLDER_MODE)
            try:
                target.hardlink_to(part)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                part.replace(target)

    def empty_tree(self) -> None:
        """Remove and recreate the tree. Raises StoreError."""
        with atomic_files.guarded("cannot clear staging"):
            if self.tree.exists():
                _unlock_tree(self.tree)
                shutil.rmtree(self.tree)
        atomic_files.make_folder(self.tree)

    def check_owned(self) -> None:
        """Raise Stopped when another run has taken over this folder, because the heartbeat was overdue."""
        if not self.folder.is_dir():
            raise Stopped(
                "another loader took over this download, because this process did not respond for too long."
            )

    def remove(self) -> None:
        """Remove the folder with all its content."""
        remove_tree(self.folder)


def _unlock_tree(tree: Path) -> None:
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(atomic_files.FOLDER_MODE)


def remove_tree(folder: Path) -> None:
    """Remove a folder of the store, including read-only subfolders; a missing folder is ignored."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    _unlock_tree(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _adopt_or_create(home: Path, *, locked: bool) -> Workspace:
    own = home / owner_name()
    for other in sorted(home.iterdir()):
        if other.is_symlink() or not other.is_dir() or is_alive(other, locked=locked):
            continue
        with contextlib.suppress(OSError):
            other.rename(own)
            return Workspace(own)
    atomic_files.make_folder(own)
    return Workspace(own)


@contextlib.contextmanager
def workspace(store: Path, digest: str, retry: RetryPolicy) -> Iterator[Workspace]:
    """Take over the staging folder of a dead run for ``digest``, or create one.

    After an error the folder is kept for the next run, unless the disk is full: then it is removed. Raises
    StoreError, and Stopped when another run holds the lock until the deadline.
    """
    home = store / STAGING / digest
    with _locked(home, retry) as locked:
        with atomic_files.guarded("cannot use the staging folder"):
            own = _adopt_or_create(home, locked=locked)
        done = threading.Event()
        threading.Thread(target=_heartbeat, args=(own.folder, done), daemon=True).start()
        try:
            own.prepare()
            yield own
            own.remove()
        except StoreError as error:
            _release(own, keep=not error.full)
            raise
        except BaseException:
            _release(own, keep=True)
            raise
        finally:
            done.set()


def _release(own: Workspace, *, keep: bool) -> None:
    if not keep:
        own.remove()
        return
    with contextlib.suppress(OSError):
        remove_tree(own.tree)
        for rejected in own.parts.glob("*.rejected"):
            rejected.unlink()
        own.folder.rename(own.folder.with_name(f"free.{secrets.token_hex(4)}"))


def _heartbeat(folder: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            os.utime(folder)


@contextlib.contextmanager
def _locked(home: Path, retry: RetryPolicy) -> Iterator[bool]:
    """Hold the lock; yield whether the file system supports locks."""
    descriptor, supported = _lock(home, retry)
    try:
        yield supported
    finally:
        with contextlib.suppress(OSError):
            (home / "lock").unlink()
            home.rmdir()  # fails, as intended, while the folder of another run is in it
        os.close(descriptor)


def _lock(home: Path, retry: RetryPolicy) -> tuple[int, bool]:
    path, reported = home / "lock", False
    while True:
        retry.check()
        atomic_files.make_folder(home)
        try:
            descriptor = atomic_files.open_file(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue  # the previous holder has just removed the folder
        except OSError as error:
            raise atomic_files.store_error(error, "cannot lock the staging folder") from error
        held = _flock(descriptor)
        if held is not False and _same(descriptor, path):
            return descriptor, bool(held)
        os.close(descriptor)
        if not reported:
            retry.on_retry("another loader is downloading this model; waiting for it", POLL_S)
            reported = True
        retry.stop.wait(POLL_S)


def _flock(descriptor: int) -> bool | None:
    """Return whether this process now holds the lock; None if the file system does not support locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Unsupported locks are not an error: correctness does not depend on them.
        return None if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS} else False
    return True


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except OSError:
        return False


def sweep(store: Path, older_than_s: float) -> list[str]:
    """Remove staging folders of dead runs that have not changed for ``older_than_s`` seconds.

    Returns the names of the removed folders.
    """
    removed = []
    for home in sorted((store / STAGING).glob("*")):
        if home.name.startswith("trash."):
            remove_tree(home)
            removed.append(home.name)
        else:
            removed += remove_leftovers(home, older_than_s)
    return removed


def remove_leftovers(home: Path, older_than_s: float = 0.0) -> list[str]:
    """Remove the folders of dead runs from ``home``, the staging folder of one plan; return their names."""
    removed, busy = [], False
    for folder in sorted(home.glob("*")):
        if folder.name == "lock":
            continue
        if is_alive(folder) or time.time() - _last_change(folder) < older_than_s:
            busy = True
            continue
        remove_tree(folder)
        removed.append(folder.name)
    with contextlib.suppress(OSError):
        if not busy and time.time() - home.stat().st_mtime >= older_than_s:
            (home / "lock").unlink(missing_ok=True)
            home.rmdir()
    return removed


def _last_change(folder: Path) -> float:
    times = [0.0]
    with contextlib.suppress(OSError):
        times.append(folder.lstat().st_mtime)
        times += [path.stat().st_mtime for path in (folder / "parts").iterdir()]
    return max(times)

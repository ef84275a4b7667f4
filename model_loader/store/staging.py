"""Each run works in a folder of its own, ``<store>/.staging/<plan-digest>/<owner>/``.

Taking over a dead run's bytes is one rename, which only one taker can win; the flock merely keeps two live
runs from doing the work twice, because it is a silent no-op on some NFS and Lustre (huggingface_hub#4306).
Between the processes of one kernel it is to be believed even there.
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

BEAT_S = 10.0
POLL_S = 0.1
STAGING = ".staging"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


@dataclass
class Workspace:
    """A run's own folder: ``parts`` while bytes arrive, ``tree`` the model about to be published."""

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
        """Make the folders; a tree that an earlier run began is begun anew (its files are still parts)."""
        atomic_files.make_folder(self.parts)
        for part in self.parts.iterdir():
            part.chmod(0o644)  # sealing may have made it read-only through its second name
        self.empty_tree()

    def place(self, part: Path, path: str) -> None:
        """Give a finished part its name in the tree; it stays a part too, so a crash loses nothing."""
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
        """Start the tree afresh."""
        with atomic_files.guarded("cannot clear staging"):
            if self.tree.exists():
                _unlock_tree(self.tree)
                shutil.rmtree(self.tree)
        atomic_files.make_folder(self.tree)

    def check_owned(self) -> None:
        """Raise Stopped when another run took this folder over (this one was silent for too long)."""
        if not self.folder.is_dir():
            raise Stopped(
                "another loader took over after this one was silent for too long; it finishes the work."
            )

    def remove(self) -> None:
        """Delete everything in it."""
        remove_tree(self.folder)


def _unlock_tree(tree: Path) -> None:
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(atomic_files.FOLDER_MODE)


def remove_tree(folder: Path) -> None:
    """Delete a folder of the store, its read-only folders included; a missing one is fine."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    _unlock_tree(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _adopt_or_create(home: Path, *, locked: bool) -> Workspace:
    mine = home / owner_name()
    for other in sorted(home.iterdir()):
        if other.is_symlink() or not other.is_dir() or is_alive(other, locked=locked):
            continue
        with contextlib.suppress(OSError):
            other.rename(mine)
            return Workspace(mine)
    atomic_files.make_folder(mine)
    return Workspace(mine)


@contextlib.contextmanager
def workspace(store: Path, digest: str, patience: RetryPolicy) -> Iterator[Workspace]:
    """Own the staging folder of ``digest``: a dead run's if there is one, else a new one.

    On a failure the folder stays, free for the next run, unless the disk is full: then it is swept. Raises
    StoreError, or Stopped when another run holds the lock until the deadline.
    """
    home = store / STAGING / digest
    with _locked(home, patience) as locked:
        with atomic_files.guarded("cannot use the staging folder"):
            mine = _adopt_or_create(home, locked=locked)
        done = threading.Event()
        threading.Thread(target=_beat, args=(mine.folder, done), daemon=True).start()
        try:
            mine.prepare()
            yield mine
            mine.remove()
        except StoreError as error:
            _leave(mine, keep=not error.full)
            raise
        except BaseException:
            _leave(mine, keep=True)
            raise
        finally:
            done.set()


def _leave(mine: Workspace, *, keep: bool) -> None:
    if not keep:
        mine.remove()
        return
    with contextlib.suppress(OSError):
        remove_tree(mine.tree)
        for rejected in mine.parts.glob("*.rejected"):
            rejected.unlink()
        mine.folder.rename(mine.folder.with_name(f"free.{secrets.token_hex(4)}"))


def _beat(folder: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(folder)


@contextlib.contextmanager
def _locked(home: Path, patience: RetryPolicy) -> Iterator[bool]:
    """Hold the lock, and say whether the file system has any."""
    descriptor, real = _lock(home, patience)
    try:
        yield real
    finally:
        with contextlib.suppress(OSError):
            (home / "lock").unlink()
            home.rmdir()  # fails, as it should, while another run's bytes are in it
        os.close(descriptor)


def _lock(home: Path, patience: RetryPolicy) -> tuple[int, bool]:
    path, told = home / "lock", False
    while True:
        patience.check()
        atomic_files.make_folder(home)
        try:
            descriptor = atomic_files.open_file(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue  # the holder just removed the folder
        except OSError as error:
            raise atomic_files.store_error(error, "cannot lock the staging folder") from error
        held = _flock(descriptor)
        if held is not False and _same(descriptor, path):
            return descriptor, bool(held)
        os.close(descriptor)
        if not told:
            patience.on_retry("another loader works on this model; waiting for it", POLL_S)
            told = True
        patience.stop.wait(POLL_S)


def _flock(descriptor: int) -> bool | None:
    """Say whether the lock is ours; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Without locks it goes on: correctness does not depend on them.
        return None if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS} else False
    return True


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except OSError:
        return False


def sweep(store: Path, older_than_s: float) -> list[str]:
    """Remove staging folders whose owner is dead and that nothing touched for ``older_than_s`` seconds."""
    removed = []
    for home in sorted((store / STAGING).glob("*")):
        if home.name.startswith("trash."):
            remove_tree(home)
            removed.append(home.name)
        else:
            removed += forget(home, older_than_s)
    return removed


def forget(home: Path, older_than_s: float = 0.0) -> list[str]:
    """Remove what dead runs left in the staging folder ``home`` of one plan; return the names removed."""
    removed, busy = [], False
    for folder in sorted(home.glob("*")):
        if folder.name == "lock":
            continue
        if is_alive(folder) or time.time() - _touched(folder) < older_than_s:
            busy = True
            continue
        remove_tree(folder)
        removed.append(folder.name)
    with contextlib.suppress(OSError):
        if not busy and time.time() - home.stat().st_mtime >= older_than_s:
            (home / "lock").unlink(missing_ok=True)
            home.rmdir()
    return removed


def _touched(folder: Path) -> float:
    times = [0.0]
    with contextlib.suppress(OSError):
        times.append(folder.lstat().st_mtime)
        times += [path.stat().st_mtime for path in (folder / "parts").iterdir()]
    return max(times)

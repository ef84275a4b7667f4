"""Proves that a published folder holds what its manifest says, and puts single files right."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from model_loader import atomic_files
from model_loader.download.hashing import hash_file
from model_loader.plan import WantedFile
from model_loader.store.store import MANIFEST, Manifest

REFETCH = frozenset({"missing", "size", "sha256", "foreign"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: ``kind`` is missing, extra, foreign (a link or device), size, sha256 or mode."""

    path: str
    kind: str
    detail: str


def check(folder: Path, manifest: Manifest) -> list[Fault]:
    """Re-hash every file of ``folder`` and return what differs from ``manifest``, empty when nothing does."""
    faults = [fault for file in manifest.files if (fault := _check_file(folder, file)) is not None]
    wanted = {file.path for file in manifest.files} | {MANIFEST}
    for where, folders, names in os.walk(folder):
        links = [n for n in folders if (Path(where) / n).is_symlink()]
        for name in [*names, *links]:
            path = str((Path(where) / name).relative_to(folder))
            if path not in wanted:
                faults.append(Fault(path, "extra", "the manifest does not know it"))
    return faults


def _check_file(folder: Path, file: WantedFile) -> Fault | None:
    path = folder / file.path
    try:
        facts = path.lstat()
    except OSError as error:
        return Fault(file.path, "missing", error.strerror or "")
    if not stat.S_ISREG(facts.st_mode):
        return Fault(file.path, "foreign", "it is no regular file")
    if facts.st_size != file.size:
        return Fault(file.path, "size", f"{facts.st_size} bytes, wanted {file.size}")
    found = hash_file(path)
    if found != file.sha256:
        return Fault(file.path, "sha256", f"{found}, wanted {file.sha256}")
    mode = stat.S_IMODE(facts.st_mode)
    if mode != atomic_files.FILE_MODE:
        return Fault(file.path, "mode", f"{mode:04o}, wanted {atomic_files.FILE_MODE:04o}")
    return None


def replace(good: Path, folder: Path, path: str) -> None:
    """Put the verified file ``good`` in place of ``folder/path`` in one step. Raises StoreError."""
    target = folder / path
    with atomic_files.guarded(f"cannot replace {path}"):
        good.chmod(atomic_files.FILE_MODE)
        target.parent.mkdir(parents=True, exist_ok=True)
        good.replace(target)
        atomic_files.sync_folder(target.parent)


def tidy(folder: Path, faults: list[Fault]) -> None:
    """Correct what needs no download: modes, and files the manifest does not know. Raises StoreError."""
    with atomic_files.guarded(f"cannot correct {folder.name}"):
        for fault in faults:
            path = folder / fault.path
            if fault.kind == "mode":
                path.chmod(atomic_files.FILE_MODE)
            elif fault.kind == "extra":
                path.unlink()

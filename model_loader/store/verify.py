"""Compares a published folder with its manifest, and repairs single files."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from model_loader import atomic_files
from model_loader.download.hashing import hash_file
from model_loader.plan import MANIFEST, WantedFile
from model_loader.store.store import Manifest

REFETCH = frozenset({"missing", "size", "sha256", "foreign"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One difference: ``kind`` is missing, extra, foreign (a link or device), size, sha256 or mode."""

    path: str
    kind: str
    detail: str


def check(folder: Path, manifest: Manifest) -> list[Fault]:
    """Re-hash every file of ``folder`` and return its differences from ``manifest``.

    Raises StoreError when a file cannot be read.
    """
    faults = [fault for file in manifest.files if (fault := _check_file(folder, file)) is not None]
    expected = {file.path for file in manifest.files} | {MANIFEST}
    for parent, folders, names in os.walk(folder):
        links = [n for n in folders if (Path(parent) / n).is_symlink()]
        for name in [*names, *links]:
            path = str((Path(parent) / name).relative_to(folder))
            if path not in expected:
                faults.append(Fault(path, "extra", "the file is not in the manifest"))
    return faults


def _check_file(folder: Path, file: WantedFile) -> Fault | None:
    path = folder / file.path
    try:
        status = path.lstat()
    except OSError as error:
        return Fault(file.path, "missing", error.strerror or "")
    if not stat.S_ISREG(status.st_mode):
        return Fault(file.path, "foreign", "not a regular file")
    if status.st_size != file.size:
        return Fault(file.path, "size", f"{status.st_size} bytes, expected {file.size}")
    sha256 = hash_file(path)
    if sha256 != file.sha256:
        return Fault(file.path, "sha256", f"{sha256}, expected {file.sha256}")
    mode = stat.S_IMODE(status.st_mode)
    if mode != atomic_files.FILE_MODE:
        return Fault(file.path, "mode", f"{mode:04o}, expected {atomic_files.FILE_MODE:04o}")
    return None


def replace(verified: Path, folder: Path, path: str) -> None:
    """Replace ``folder/path`` by the file ``verified`` atomically. Raises StoreError."""
    target = folder / path
    with atomic_files.guarded(f"cannot replace {path}"):
        verified.chmod(atomic_files.FILE_MODE)
        target.parent.mkdir(parents=True, exist_ok=True)
        verified.replace(target)
        atomic_files.sync_folder(target.parent)


def tidy(folder: Path, faults: list[Fault]) -> None:
    """Repair what needs no download: modes, and files that are not in the manifest. Raises StoreError."""
    with atomic_files.guarded(f"cannot repair {folder.name}"):
        for fault in faults:
            path = folder / fault.path
            if fault.kind == "mode":
                path.chmod(atomic_files.FILE_MODE)
            elif fault.kind == "extra":
                path.unlink()

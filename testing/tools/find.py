"""Where a tool is: on PATH, else in the cache; and what to run where it is neither."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from testing.tools import debian
from testing.tools.kits import Kit, kits
from testing.tools.store import folder_of

REMEDY = "run: make test-tools"


def path_entries() -> list[Path]:
    """Return the folders of PATH that exist."""
    return [Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]


def locate(kit: Kit) -> list[Path] | None:
    """Return the folders in which the kit's files are, or None where it is not there as a whole.

    All files come from one place: a folder of PATH (with its ``folders``), else the cache. Halves of different
    versions are never combined.
    """
    places = [[entry, *(entry / name for name in kit.folders)] for entry in path_entries() if kit.from_path]
    places.append([folder_of(kit)])
    for folders in places:
        if all(_in(folders, name) for name in kit.files):
            return folders
    return None


def _in(folders: Iterable[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def file(kit: str, name: str) -> Path:
    """Return the path of one of the kit's files.

    Raises:
        FileNotFoundError: Where the kit is not there; the message has the remedy.

    """
    found = _in(locate(kits()[kit]) or (), name)
    if found is None:
        raise FileNotFoundError(f"{name} of {kit} is not here; {REMEDY}")
    return found


def missing(*names: str) -> str | None:
    """Return why tests that need these kits or programs can't run, with the remedy; None where all are there.

    A name is a kit's, else a program's of a Debian package.
    """
    absent = [name for name in names if not _is_there(name)]
    return f"not found: {', '.join(absent)}; {REMEDY}" if absent else None


def _is_there(name: str) -> bool:
    if name in kits():
        return locate(kits()[name]) is not None
    return shutil.which(name, path=search_path()) is not None


def search_path(names: Sequence[str] = ()) -> str:
    """Return PATH with the kits of the cache behind it, all of them or those named."""
    entries = [str(entry) for entry in path_entries()]
    # Debian's users other than root don't have these.
    entries += [entry for entry in debian.SYSTEM_FOLDERS if entry not in entries]
    for kit in [kits()[name] for name in names] or kits().values():
        for folder in locate(kit) or ():
            if str(folder) not in entries and folder.is_dir():
                entries.append(str(folder))
    return os.pathsep.join(entries)


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with that PATH, and ``variables``."""
    return os.environ | {"PATH": search_path()} | variables


def activate() -> None:
    """Let this process and all that it starts find the kits of the cache."""
    os.environ["PATH"] = search_path()

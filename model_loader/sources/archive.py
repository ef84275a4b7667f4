"""Imports: a folder, or a tar file that is read in place, by member name, and never extracted.

Only uncompressed tar files: weights hardly compress, and a compressed archive can neither be read at an
offset nor be limited before it is unpacked (zip bombs). Links, devices and sparse members are refused when
the archive is listed.
"""

import json
import os
import tarfile
from pathlib import Path

from model_loader import atomic_files, path_rules
from model_loader.errors import PlanError, SourceError
from model_loader.plan import MANIFEST, Plan, WantedFile, parse_manifest
from model_loader.sources.protocols import FileBody, FolderSource, Source

MAX_MEMBERS = 200_000
MAX_MANIFEST = 64 * 1024 * 1024


class TarSource:
    """The members of an uncompressed tar file; a single top-level folder is skipped.

    Raises PlanError for a dangerous member name, and SourceError for a damaged archive.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self.name = f"tar:{archive.name}"
        members = _members(archive)
        top = _top_folder(members)
        self.members = {name.removeprefix(top): extent for name, extent in members.items()}
        path_rules.check_names(name for name in self.members if name != MANIFEST)

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> FileBody:  # noqa: ARG002  -- Source
        """Open one member. Raises SourceError when the archive does not contain it."""
        if path not in self.members:
            raise SourceError(f"{self.name} does not contain {path}.")
        offset, size = self.members[path]
        descriptor = os.open(self._archive, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        version = f'"{status.st_ino}-{status.st_mtime_ns}-{offset}"'
        last = size if end is None else min(end, size)
        return FileBody(descriptor, start, size, version, offset + start, offset + last)

    def listing(self) -> dict[str, int]:
        """Return the size in bytes of every member."""
        return {name: size for name, (_, size) in self.members.items()}


def _members(archive: Path) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise PlanError(
                        f"{archive.name} has more than {MAX_MEMBERS} members; import the folder instead."
                    )
                if not member.isdir():
                    _add(members, member, archive)
    except (tarfile.TarError, OSError) as error:
        raise SourceError(
            f"{archive.name} is not a plain tar file ({error}). Decompress it, or create one with tar -cf."
        ) from None
    return members


def _add(members: dict[str, tuple[int, int]], member: tarfile.TarInfo, archive: Path) -> None:
    name = member.name.removeprefix("./")
    if not member.isreg() or member.issparse():
        raise PlanError(
            f"{archive.name}: member {name[:80]!r} is a link, a device or sparse; use regular files."
        )
    if name.split("/")[-1] != MANIFEST:
        path_rules.check_name(name)
    if name in members:
        raise PlanError(f"{archive.name}: duplicate member {name[:80]!r}; remove one.")
    if member.offset_data + member.size > archive.stat().st_size:
        raise SourceError(f"{archive.name} is truncated inside {name[:80]!r}; copy it again.")
    members[name] = (member.offset_data, member.size)


def _top_folder(members: dict[str, tuple[int, int]]) -> str:
    tops = {name.partition("/")[0] for name in members}
    nested = all("/" in name for name in members)
    return f"{tops.pop()}/" if nested and len(tops) == 1 else ""


def open_import(path: Path) -> Source:
    """Return the source that reads a folder or a tar file; nothing is written.

    Raises SourceError when ``path`` cannot be read, and PlanError when it contains a link, a device or a
    dangerous name.
    """
    if path.is_dir():
        _check_folder(path)
        return FolderSource(path)
    return TarSource(path)


def _check_folder(folder: Path) -> None:
    path_rules.check_names(name for name in _folder_listing(folder) if name != MANIFEST)


def _folder_listing(folder: Path) -> dict[str, int]:
    sizes = {}
    for parent, folders, files in os.walk(folder):
        for name in [*files, *(n for n in folders if (Path(parent) / n).is_symlink())]:
            path = Path(parent) / name
            relative = str(path.relative_to(folder))
            if path.is_symlink() or not path.is_file():
                raise PlanError(
                    f"{relative!r} is a link or a device; copy the folder with `cp -rL` and import the copy."
                )
            sizes[relative] = path.stat().st_size
    return sizes


def import_plan(path: Path, source: Source, model: str, revision: str) -> Plan:
    """Return the plan that ``path`` contains: its ``manifest.json``, else its listing without checksums.

    Raises PlanError when the manifest is invalid.
    """
    listing = source.listing() if isinstance(source, TarSource) else _folder_listing(path)
    if MANIFEST in listing:
        if listing[MANIFEST] > MAX_MANIFEST:
            raise PlanError(f"{path.name}: {MANIFEST} exceeds {MAX_MANIFEST} bytes.")
        return parse_manifest(_read_json(source), f"{path.name}/{MANIFEST}")
    files = tuple(WantedFile(name, size) for name, size in sorted(listing.items()))
    return Plan(model, revision, files)


def _read_json(source: Source) -> object:
    body = source.open(MANIFEST, 0, None, None)
    try:
        with atomic_files.guarded(f"cannot read {MANIFEST}"):
            return json.loads(b"".join(iter(body.read, b"")))
    except ValueError as error:
        raise PlanError(f"{MANIFEST} in {source.name} is not JSON ({error}).") from None
    finally:
        body.close()

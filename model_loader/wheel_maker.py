"""Makes wheels that carry a model's files in parts, for a package index; the same input, the same bytes."""

import base64
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_loader import atomic_files
from model_loader.download.hashing import hash_file
from model_loader.errors import PlanError, StoreError
from model_loader.plan import WantedFile

MAX_WHEELS = 999
MAX_PART = 1024**3
_BLOCK = 1024 * 1024
Index = dict[str, list[dict[str, str]]]
"""The catalogue's ``index``: for each file its parts, in order."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: a wheel's bytes do not depend on the day
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
_VERSION = re.compile(r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))*((a|b|rc)\d+)?(\.post\d+)?$")


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes of ``file`` from ``offset``, as ``member`` of a wheel."""

    member: str
    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PlannedWheel:
    """One wheel: ``requirement`` is NAME==VERSION, ``stem`` the start of its file and folder names."""

    requirement: str
    stem: str
    pieces: tuple[Piece, ...]

    @property
    def filename(self) -> str:
        """The wheel's file name."""
        return f"{self.stem}-py3-none-any.whl"

    @property
    def size(self) -> int:
        """Bytes of the model in it."""
        return sum(piece.length for piece in self.pieces)


def plan_wheels(
    files: Sequence[WantedFile], name: str, version: str, part_size: int
) -> tuple[PlannedWheel, ...]:
    """Return the wheels that carry ``files``, each with at most ``part_size`` bytes of them.

    The wheels are ``name-part1`` and so on; small files share one. Raises PlanError for an invalid name,
    version or size, and for too many parts.
    """
    if not _NAME.match(name):
        raise PlanError(
            f"--name {name!r} is not a package name: letters and digits, with . _ - between them."
        )
    if not _VERSION.match(version):
        raise PlanError(f"--version {version!r} is not a package version such as 1.0.0.")
    total = sum(file.size or 0 for file in files)
    if not 0 < part_size <= MAX_PART or total > part_size * MAX_WHEELS:
        least = -(-total // MAX_WHEELS)
        raise PlanError(f"--part-size must be from {least} bytes ({MAX_WHEELS} wheels) to {MAX_PART} bytes.")
    slices = _slices(files, part_size)
    return tuple(_wheel(number, rows, name, version) for number, rows in enumerate(slices, 1))


def _slices(files: Sequence[WantedFile], part_size: int) -> list[list[tuple[str, int, int]]]:
    """Return for each wheel its (file, offset, length)."""
    wheels: list[list[tuple[str, int, int]]] = [[]]
    free = part_size
    for file in sorted(files, key=lambda file: file.path):
        offset, size = 0, file.size or 0
        while offset < size or not size:
            if not free:
                wheels.append([])
                free = part_size
            length = min(free, size - offset)
            wheels[-1].append((file.path, offset, length))
            offset, free = offset + length, free - length
            if not size:
                break
    return wheels


def _wheel(number: int, rows: list[tuple[str, int, int]], name: str, version: str) -> PlannedWheel:
    project = f"{name}-part{number}"
    folder = re.sub(r"[-_.]+", "_", project).lower()
    pieces = tuple(
        Piece(f"{folder}/data/{index:03d}.bin", file, offset, length)
        for index, (file, offset, length) in enumerate(rows, 1)
    )
    return PlannedWheel(f"{project}=={version}", f"{folder}-{version}", pieces)


def build(
    folder: Path, wheels: Sequence[PlannedWheel], out: Path, licence: str, moved: Callable[[int], None]
) -> dict[str, str]:
    """Write the wheels into ``out``, each in one step; return the SHA-256 of each by file name.

    ``folder`` has the verified files, ``licence`` is the model's, ``moved`` counts bytes. Raises StoreError
    when ``out`` cannot be written or is too small.
    """
    sums = {}
    with atomic_files.guarded(f"cannot write into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        need, free = sum(wheel.size + _BLOCK for wheel in wheels), shutil.disk_usage(out).free
        if need > free:
            raise StoreError(
                f"{out}: {need >> 20} MiB needed, {free >> 20} MiB free. Free space, or use --out."
            )
        for wheel in wheels:
            partial = out / f".{wheel.filename}.{os.getpid()}"
            try:
                _write(partial, wheel, folder, licence, moved)
                sums[wheel.filename] = hash_file(partial)
                partial.replace(out / wheel.filename)
            finally:
                partial.unlink(missing_ok=True)
    return sums


def _write(
    target: Path, wheel: PlannedWheel, folder: Path, licence: str, moved: Callable[[int], None]
) -> None:
    info = f"{wheel.stem}.dist-info"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        records = [_copy(archive, piece, folder, moved) for piece in wheel.pieces]
        records += [
            _add(archive, f"{info}/{name}", text.encode()) for name, text in _metadata(wheel, licence).items()
        ]
        record = "".join(f"{line}\n" for line in [*records, f"{info}/RECORD,,"])
        _add(archive, f"{info}/RECORD", record.encode())


def _metadata(wheel: PlannedWheel, licence: str) -> dict[str, str]:
    name, _, version = wheel.requirement.partition("==")
    fields = {
        "Metadata-Version": "2.1", "Name": name, "Version": version, "License": licence,
        "Summary": "A part of a machine-learning model's files: data only, no code",
    }  # fmt: skip
    tags = {
        "Wheel-Version": "1.0",
        "Generator": "ai-assist",
        "Root-Is-Purelib": "true",
        "Tag": "py3-none-any",
    }
    return {
        file: "".join(f"{key}: {value}\n" for key, value in rows.items())
        for file, rows in {"METADATA": fields, "WHEEL": tags}.items()
    }


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o100644 << 16
    entry.create_system = 3  # Unix, on every system
    entry.file_size = size
    return entry


def _copy(archive: zipfile.ZipFile, piece: Piece, folder: Path, moved: Callable[[int], None]) -> str:
    digest, left = hashlib.sha256(), piece.length
    with (
        (folder / piece.file).open("rb") as source,
        archive.open(_entry(piece.member, piece.length), "w") as target,
    ):
        source.seek(piece.offset)
        while left and (data := source.read(min(_BLOCK, left))):
            target.write(data)
            digest.update(data)
            moved(len(data))
            left -= len(data)
    if left:
        raise StoreError(f"{piece.file} became shorter while it was read; run `model-loader verify`.")
    return _record(piece.member, digest.digest(), piece.length)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> str:
    archive.writestr(_entry(name, len(data)), data)
    return _record(name, hashlib.sha256(data).digest(), len(data))


def _record(name: str, digest: bytes, size: int) -> str:
    text = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return f"{name},sha256={text},{size}"


def index_block(wheels: Sequence[PlannedWheel], sums: dict[str, str]) -> Index:
    """Return the catalogue's ``index`` of these wheels: the parts of each file, in order."""
    block: Index = {}
    for wheel in wheels:
        for piece in wheel.pieces:
            part = {"index": wheel.requirement, "path": piece.member, "sha256": sums[wheel.filename]}
            block.setdefault(piece.file, []).append(part)
    return block

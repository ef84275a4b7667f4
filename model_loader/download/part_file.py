"""A file that is being downloaded: its bytes in ``<name>.part``, the watermarks in ``<name>.progress``.

A watermark is the number of bytes of one segment that are present. The progress file is memory-mapped, so
an update needs no system call and survives SIGKILL. After a power loss a watermark may be ahead of its bytes:
the checksum detects this, and a file without a checksum is not resumed after a restart of the machine.
"""

import contextlib
import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from model_loader.atomic_files import guarded, open_file

HEADER = 4096
MAX_ETAG = 1024
RESUMABLE = 1024 * 1024  # smaller files are downloaded again
UNKNOWN = "unknown"


def boot_id() -> str:
    """Return the id of the current boot; bytes that an earlier boot left unsynced are not trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return UNKNOWN


def _short(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()  # a name may be longer than the header


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """The division of a file into segments: ``size`` of the file and of one ``segment``, in bytes."""

    size: int
    segment: int

    @property
    def count(self) -> int:
        """Number of segments, at least one."""
        return max(1, -(-self.size // self.segment))

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the bytes [start, end) of segment ``index``."""
        return index * self.segment, min((index + 1) * self.segment, self.size)


class PartFile:
    """An open part file with one watermark per segment; ``close`` keeps it, ``discard`` removes it."""

    def __init__(
        self,
        part: Path,
        layout: SegmentLayout,
        etag: str | None = None,
        watermarks: list[int] | None = None,
        source: str = "",
    ) -> None:
        """Create or open the files and reserve their blocks; ``etag`` is a version of ``source``.

        Raises StoreError (full disk, EIO).
        """
        self.part = part
        self._source = _short(source)
        self.layout = layout
        self.etag = etag
        self._map: mmap.mmap | None = None
        with guarded(f"cannot write {part.name}"):
            self.fd = open_file(part, os.O_RDWR | os.O_CREAT)
            self._reserve()
            if layout.size >= RESUMABLE:
                self._map = _map_progress(part.with_suffix(".progress"), HEADER + 8 * layout.count)
        self._watermarks = (
            memoryview(self._map)[HEADER:].cast("Q") if self._map else memoryview(bytearray(8)).cast("Q")
        )
        for index, watermark in enumerate(watermarks or [0] * layout.count):
            self._watermarks[index] = watermark
        self._write_header()

    def _reserve(self) -> None:
        # Blocks are reserved first: a disk that is too small fails at 0 %, not at 99 %.
        if self.layout.size:
            os.posix_fallocate(self.fd, 0, self.layout.size)
        os.ftruncate(self.fd, self.layout.size)

    def _write_header(self) -> None:
        if self._map is not None:
            header = {
                "size": self.layout.size,
                "segment": self.layout.segment,
                "etag": self.etag,
                "source": self._source,
                "boot": boot_id(),
            }
            self._map[:HEADER] = json.dumps(header).encode().ljust(HEADER)

    def bind(self, etag: str | None) -> bool:
        """Record the first version that is seen; return whether ``etag`` agrees with it."""
        if etag is None or len(etag) > MAX_ETAG:
            return self.etag is None
        if self.etag is None:
            self.etag = etag
            self._write_header()
        return self.etag == etag

    def watermark(self, index: int) -> int:
        """Return the number of bytes of segment ``index`` that are present."""
        return int(self._watermarks[index])

    def position(self, index: int) -> int:
        """Return the offset of the first missing byte of segment ``index``."""
        return self.layout.bounds(index)[0] + int(self._watermarks[index])

    def write(self, index: int, data: bytes) -> int:
        """Append ``data`` to segment ``index`` and return its offset. Raises StoreError (full disk, EIO)."""
        offset = self.position(index)
        view = memoryview(data)
        with guarded(f"cannot write {self.part.name}"):
            done = 0
            while done < len(view):
                done += os.pwrite(self.fd, view[done:], offset + done)
        self._watermarks[index] += len(view)
        return offset

    def present(self) -> int:
        """Return the number of bytes of all segments that are present."""
        return sum(self._watermarks)

    def contiguous(self, start: int) -> int:
        """Return the end of the contiguous bytes from ``start`` on."""
        while start < self.layout.size:
            index = start // self.layout.segment
            reached = self.position(index)
            if reached < self.layout.bounds(index)[1]:
                return max(start, reached)
            start = reached
        return start

    def rewind(self) -> None:
        """Drop the last byte of every complete segment, so that the source must confirm the version."""
        for index in range(self.layout.count):
            start, end = self.layout.bounds(index)
            if self._watermarks[index] == end - start > 0:
                self._watermarks[index] -= 1

    def clear(self) -> None:
        """Drop all bytes and the version."""
        for index in range(self.layout.count):
            self._watermarks[index] = 0
        self.etag = None
        self._write_header()

    def close(self) -> None:
        """Close both files and keep them on disk for a later run."""
        self._watermarks.release()
        if self._map is not None:
            self._map.close()
        os.close(self.fd)


def _map_progress(path: Path, length: int) -> mmap.mmap:
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        # Reserved, not sparse: a write to a page without a disk block would raise SIGBUS.
        os.posix_fallocate(descriptor, 0, length)
        os.ftruncate(descriptor, length)
        return mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)


def discard(part: Path) -> None:
    """Remove a part file and its progress file, if they exist."""
    for path in (part, part.with_suffix(".progress")):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def resume(part: Path, size: int | None, source: str, *, pinned: bool) -> PartFile | None:
    """Return the reopened part file of an earlier run, or remove it and return None if it cannot be trusted.

    Bytes of another ``source`` are kept for a pinned file: the checksum decides.

    ``size`` is the expected size in bytes, if known. A file that is not ``pinned`` has no checksum: it is
    resumed only within the same boot, and only if the source can confirm the version. Raises StoreError.
    """
    progress = part.with_suffix(".progress")
    try:
        descriptor = open_file(progress, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read()
        header = json.loads(raw[:HEADER])
        layout = SegmentLayout(int(header["size"]), int(header["segment"]))
        watermarks = list(memoryview(raw[HEADER : HEADER + 8 * layout.count]).cast("Q"))
        size_on_disk = part.lstat().st_size
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        discard(part)
        return None
    consistent = len(watermarks) == layout.count and all(
        watermark <= layout.bounds(i)[1] - layout.bounds(i)[0] for i, watermark in enumerate(watermarks)
    )
    same = header.get("source") == _short(source)
    trusted = pinned or (same and header.get("etag") is not None and header.get("boot") == boot_id())
    if not (consistent and trusted and size_on_disk == layout.size and size in (None, layout.size)):
        discard(part)
        return None
    part_file = PartFile(part, layout, header.get("etag") if same else None, watermarks, source)
    if not pinned:
        part_file.rewind()
    return part_file

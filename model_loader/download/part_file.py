"""A file on its way: bytes in ``<name>.part``, how far each segment got in ``<name>.progress``.

The progress file is mapped into memory, so a mark costs no system call and survives SIGKILL. After a power
cut a mark may be ahead of its bytes: the checksum finds that; without one nothing is resumed then.
"""

import contextlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from model_loader.atomic_files import guarded, open_file

HEADER = 4096
MAX_ETAG = 1024
RESUMABLE = 1024 * 1024  # smaller files are simply taken again
UNKNOWN = "unknown"


def boot_id() -> str:
    """Return what identifies this start of the machine; unsynced bytes of another one are not trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return UNKNOWN


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """What a file's bytes were cut into: whole ``size`` and ``segment``, both in bytes."""

    size: int
    segment: int

    @property
    def count(self) -> int:
        """Number of segments, at least one."""
        return max(1, -(-self.size // self.segment))

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the bytes [start, end) of segment ``index``."""
        return index * self.segment, min((index + 1) * self.segment, self.size)


class Partial:
    """An open part file with one mark (bytes present) per segment. Close it; ``discard`` to remove it."""

    def __init__(
        self, part: Path, shape: SegmentLayout, etag: str | None = None, marks: list[int] | None = None
    ) -> None:
        self.part = part
        self.shape = shape
        self.etag = etag
        self._map: mmap.mmap | None = None
        with guarded(f"cannot write {part.name}"):
            self.fd = open_file(part, os.O_RDWR | os.O_CREAT)
            self._make_room()
            if shape.size >= RESUMABLE:
                self._map = _map_progress(part.with_suffix(".progress"), HEADER + 8 * shape.count)
        self._marks = (
            memoryview(self._map)[HEADER:].cast("Q") if self._map else memoryview(bytearray(8)).cast("Q")
        )
        for index, mark in enumerate(marks or [0] * shape.count):
            self._marks[index] = mark
        self._write_header()

    def _make_room(self) -> None:
        # Reserving the blocks now turns a full disk at 99 % into a refusal at 0 %.
        if self.shape.size:
            os.posix_fallocate(self.fd, 0, self.shape.size)
        os.ftruncate(self.fd, self.shape.size)

    def _write_header(self) -> None:
        if self._map is not None:
            facts = {
                "size": self.shape.size,
                "segment": self.shape.segment,
                "etag": self.etag,
                "boot": boot_id(),
            }
            self._map[:HEADER] = json.dumps(facts).encode().ljust(HEADER)

    def bind(self, etag: str | None) -> bool:
        """Remember the version seen first; return False when ``etag`` names another one."""
        if etag is None or len(etag) > MAX_ETAG:
            return self.etag is None
        if self.etag is None:
            self.etag = etag
            self._write_header()
        return self.etag == etag

    def mark(self, index: int) -> int:
        """Return how many bytes of segment ``index`` are here."""
        return int(self._marks[index])

    def position(self, index: int) -> int:
        """Return the offset of the first missing byte of segment ``index``."""
        return self.shape.bounds(index)[0] + int(self._marks[index])

    def write(self, index: int, data: bytes) -> int:
        """Append ``data`` to segment ``index`` and return its offset. Raises StoreError (full disk, EIO)."""
        offset = self.position(index)
        view = memoryview(data)
        with guarded(f"cannot write {self.part.name}"):
            done = 0
            while done < len(view):
                done += os.pwrite(self.fd, view[done:], offset + done)
        self._marks[index] += len(view)
        return offset

    def present(self) -> int:
        """Return how many bytes are here in all."""
        return sum(self._marks)

    def contiguous(self, start: int) -> int:
        """Return the end of the gapless bytes from ``start`` on."""
        while start < self.shape.size:
            index = start // self.shape.segment
            reached = self.position(index)
            if reached < self.shape.bounds(index)[1]:
                return max(start, reached)
            start = reached
        return start

    def rewind(self) -> None:
        """Forget the last byte of every full segment, so that the source must confirm the version."""
        for index in range(self.shape.count):
            start, end = self.shape.bounds(index)
            if self._marks[index] == end - start > 0:
                self._marks[index] -= 1

    def clear(self) -> None:
        """Forget every byte and the version."""
        for index in range(self.shape.count):
            self._marks[index] = 0
        self.etag = None
        self._write_header()

    def close(self) -> None:
        """Close both files; they stay for a later run."""
        self._marks.release()
        if self._map is not None:
            self._map.close()
        os.close(self.fd)


def _map_progress(path: Path, length: int) -> mmap.mmap:
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        # Reserved, not sparse: a store into a page the disk has no block for would be a SIGBUS.
        os.posix_fallocate(descriptor, 0, length)
        os.ftruncate(descriptor, length)
        return mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)


def discard(part: Path) -> None:
    """Remove a part file and its progress, if they exist."""
    for path in (part, part.with_suffix(".progress")):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def resume(part: Path, size: int | None, *, pinned: bool) -> Partial | None:
    """Reopen what an earlier run left, or return None (and remove it) when it cannot be trusted or fits not.

    Without a checksum only the version the source confirms is evidence; it and the same boot are needed.
    """
    progress = part.with_suffix(".progress")
    try:
        descriptor = open_file(progress, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read()
        facts = json.loads(raw[:HEADER])
        shape = SegmentLayout(int(facts["size"]), int(facts["segment"]))
        marks = list(memoryview(raw[HEADER : HEADER + 8 * shape.count]).cast("Q"))
        found = part.lstat().st_size
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        discard(part)
        return None
    fits = len(marks) == shape.count and all(
        m <= shape.bounds(i)[1] - shape.bounds(i)[0] for i, m in enumerate(marks)
    )
    trusted = pinned or (facts.get("etag") is not None and facts.get("boot") == boot_id())
    if not (fits and trusted and found == shape.size and size in (None, shape.size)):
        discard(part)
        return None
    partial = Partial(part, shape, facts.get("etag"), marks)
    if not pinned:
        partial.rewind()
    return partial

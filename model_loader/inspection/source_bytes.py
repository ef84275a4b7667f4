"""Bytes at any offset of a source's file, read in blocks: a header needs no more of a file than itself."""

from collections.abc import Callable

from model_loader.errors import ModelError, RangesError, SourceError, TransientError
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources.protocols import Body, Source

_BLOCK = 1024 * 1024


class SourceBytes:
    """One file of a folder, or of a hub, which is asked for ranges. Memory: 1 MiB, or one read if larger."""

    def __init__(self, source: Source, path: str, size: int, retry: RetryPolicy | None = None) -> None:
        self.name, self.size = path, size
        self._source, self._retry = source, retry or RetryPolicy()
        self._start, self._block = 0, b""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``.

        Raises ModelError where the file ends before them, else as ``Source.open``.
        """
        end = offset + count
        if end > self.size:
            raise ModelError(f"{self.name} ends within its header; it is cut off. Download it again.")
        if not self._start <= offset <= end <= self._start + len(self._block):
            last = min(self.size, offset + max(count, _BLOCK))
            self._block = retrying(self._retry, lambda: self._fetch(offset, last))
            self._start = offset
        at = offset - self._start
        return self._block[at : at + count]

    def _fetch(self, start: int, end: int) -> bytes:
        body = self._source.open(self.name, start, end, None)
        try:
            if body.whole and start:
                raise RangesError(
                    f"{self._source.name} sends {self.name} only whole; download the file and add it from"
                    " its path."
                )
            if body.total is not None and body.total != self.size:
                raise SourceError(
                    f"{self._source.name}: {self.name} has {body.total} bytes, not the {self.size} announced."
                )
            return _all(body, end - start, self.name)
        finally:
            body.close()


def _all(body: Body, count: int, name: str) -> bytes:
    parts: list[bytes] = []
    got = 0
    while got < count:
        data = body.read()
        if not data:
            raise TransientError(f"{name}: the source ended after {got} of {count} bytes")
        parts.append(data)
        got += len(data)
    return b"".join(parts)[:count]


class Counting:
    """A source that reports each byte that is read from it, for a progress bar."""

    def __init__(self, source: Source, add: Callable[[int], None]) -> None:
        self.name = source.name
        self._source, self._add = source, add

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> Body:
        """Open as the source does. Raises as ``Source.open``."""
        return _CountingBody(self._source.open(path, start, end, etag), self._add)


class _CountingBody:
    def __init__(self, body: Body, add: Callable[[int], None]) -> None:
        self.whole, self.start, self.total, self.etag = body.whole, body.start, body.total, body.etag
        self._body, self._add = body, add

    def read(self) -> bytes:
        data = self._body.read()
        self._add(len(data))
        return data

    def close(self) -> None:
        self._body.close()

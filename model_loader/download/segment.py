"""Moves the bytes of one file's segments from a source into its part file."""

import time
from collections import deque
from dataclasses import dataclass

from model_loader.download import sniff
from model_loader.download.hashing import FollowingHash
from model_loader.download.part_file import Partial
from model_loader.errors import ChangedError, IntegrityError, RangesError, TransientError
from model_loader.plan import WantedFile
from model_loader.progress import Reporter
from model_loader.retry import RetryPolicy, RetryState
from model_loader.sources.protocols import Body, Source


@dataclass(frozen=True, slots=True)
class Limits:
    """``segment`` in bytes; a connection below ``min_rate`` bytes/s over ``window_s`` seconds is cut."""

    connections: int = 8
    segment: int = 32 * 1024 * 1024
    min_rate: float = 1024.0
    window_s: float = 30.0


class StallDetector:
    """Notices a connection that is alive but too slow; time spent writing or hashing does not count."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._seconds = 0.0

    def add(self, count: int, seconds: float) -> None:
        """Count one read. Raises TransientError at the end of a window that was below the floor."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._limits.window_s:
            return
        rate = self._bytes / self._seconds
        if rate < self._limits.min_rate:
            raise TransientError(f"only {rate:.0f} bytes/s arrive, the floor is {self._limits.min_rate:.0f}")
        self._bytes, self._seconds = 0, 0.0


@dataclass(frozen=True)
class Context:
    """What every file of one run shares."""

    source: Source
    patience: RetryPolicy
    limits: Limits
    reporter: Reporter


def short(partial: Partial, index: int) -> bool:
    """Say whether segment ``index`` still misses bytes."""
    return partial.position(index) < partial.shape.bounds(index)[1]


class SegmentDownloader:
    """Fetches segments one after the other; several threads may share one, each with its own segment."""

    def __init__(
        self, wanted: WantedFile, partial: Partial, digest: FollowingHash, context: Context, *, whole: bool
    ) -> None:
        self.digest = digest
        self._wanted = wanted
        self._partial = partial
        self._context = context
        self._whole = whole

    def work(self, missing: deque[int]) -> None:
        """Take segment numbers from ``missing`` until none is left."""
        while True:
            try:
                index = missing.popleft()
            except IndexError:
                return
            self._segment(index)

    def _segment(self, index: int) -> None:
        tries = RetryState(self._context.patience)
        while short(self._partial, index):
            self._context.patience.check()
            before = self._partial.mark(index)
            try:
                self._attempt(index)
            except TransientError as error:
                progressed = 0 if self._whole else self._partial.mark(index) - before
                tries.failed(error, progressed)
                self._start_over()

    def _start_over(self) -> None:
        if self._whole:  # a source without ranges begins at the first byte, and so must the hash
            self._partial.clear()
            self.digest = FollowingHash(self._partial)

    def _attempt(self, index: int) -> None:
        start, end = self._partial.position(index), self._partial.shape.bounds(index)[1]
        asked = None if self._whole else end
        body = self._context.source.open(self._wanted.path, start, asked, self._partial.etag)
        try:
            self._accept(body, start, end)
            self._drain(body, index, end)
        finally:
            body.close()

    def _accept(self, body: Body, start: int, end: int) -> None:
        path, size = self._wanted.path, self._partial.shape.size
        if not self._partial.bind(body.etag):
            raise ChangedError(f"{path}: changed at the source during the download")
        if body.total is not None and body.total != size:
            raise IntegrityError(f"{path}: the source's file has {body.total} bytes, wanted {size}.")
        if body.start != start or (body.whole and (start, end) != (0, size)):
            raise RangesError(f"{path}: the source answers another range than asked")

    def _drain(self, body: Body, index: int, end: int) -> None:
        floor = StallDetector(self._context.limits)
        clock = time.monotonic
        while True:
            began = clock()
            data = body.read()
            floor.add(len(data), clock() - began)
            if not data:
                break
            if self._partial.position(index) + len(data) > end:
                raise IntegrityError(f"{self._wanted.path}: the source sends more bytes than it said.")
            offset = self._partial.write(index, data)
            if offset == 0 and len(data) >= sniff.HEAD:
                sniff.check(self._wanted.path, data[: sniff.HEAD])
            self.digest.feed(offset, data)
            self._context.reporter.add(len(data))
            self._context.patience.check()
        if short(self._partial, index):
            raise TransientError(f"{self._wanted.path}: the body ended early")

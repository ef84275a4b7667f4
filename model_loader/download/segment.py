"""Downloads the segments of one file from a source into its part file."""

import time
from collections import deque
from dataclasses import dataclass

from model_loader.download import sniff
from model_loader.download.hashing import FollowingHash
from model_loader.download.part_file import PartFile
from model_loader.errors import ChangedError, IntegrityError, RangesError, TransientError
from model_loader.plan import WantedFile
from model_loader.progress import Reporter
from model_loader.retry import RetryPolicy, RetryState
from model_loader.sources.protocols import Body, Source


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and rates of a transfer.

    Attributes:
        connections: connections at the same time, over all files of a run.
        segment: bytes of one range request.
        min_rate: bytes/s below which a connection is closed and retried.
        window_s: seconds over which the rate is measured.

    """

    connections: int = 8
    segment: int = 32 * 1024 * 1024
    min_rate: float = 1024.0
    window_s: float = 30.0


class StallDetector:
    """Detects a connection that is open but too slow; time spent on writing or hashing does not count."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._seconds = 0.0

    def add(self, count: int, seconds: float) -> None:
        """Count one read. Raises TransientError at the end of a window whose rate is below the minimum."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._limits.window_s:
            return
        rate = self._bytes / self._seconds
        if rate < self._limits.min_rate:
            raise TransientError(
                f"the rate of {rate:.0f} bytes/s is below the minimum of {self._limits.min_rate:.0f}"
            )
        self._bytes, self._seconds = 0, 0.0


@dataclass(frozen=True)
class Context:
    """What all downloads of one run share."""

    source: Source
    retry: RetryPolicy
    limits: Limits
    reporter: Reporter


def is_incomplete(part_file: PartFile, index: int) -> bool:
    """Return whether segment ``index`` still lacks bytes."""
    return part_file.position(index) < part_file.layout.bounds(index)[1]


class SegmentDownloader:
    """Downloads segments one after the other; several threads may share one, each with its own segment.

    ``whole``: the source does not support ranges, so the file is one segment that always begins at byte 0.
    """

    def __init__(
        self, file: WantedFile, part_file: PartFile, digest: FollowingHash, context: Context, *, whole: bool
    ) -> None:
        self.digest = digest
        self._file = file
        self._part_file = part_file
        self._context = context
        self._whole = whole

    def run(self, missing: deque[int]) -> None:
        """Download the segments whose numbers are in ``missing`` until it is empty. Raises a LoaderError."""
        while True:
            try:
                index = missing.popleft()
            except IndexError:
                return
            self._download(index)

    def _download(self, index: int) -> None:
        state = RetryState(self._context.retry)
        while is_incomplete(self._part_file, index):
            self._context.retry.check()
            before = self._part_file.watermark(index)
            try:
                self._attempt(index)
            except TransientError as error:
                progressed = 0 if self._whole else self._part_file.watermark(index) - before
                state.failed(error, progressed)
                self._start_over()

    def _start_over(self) -> None:
        if self._whole:  # without ranges the next try begins at byte 0, and the hash with it
            self._part_file.clear()
            self.digest = FollowingHash(self._part_file)

    def _attempt(self, index: int) -> None:
        start, end = self._part_file.position(index), self._part_file.layout.bounds(index)[1]
        range_end = None if self._whole else end
        body = self._context.source.open(self._file.path, start, range_end, self._part_file.etag)
        try:
            self._check(body, start, end)
            self._receive(body, index, end)
        finally:
            body.close()

    def _check(self, body: Body, start: int, end: int) -> None:
        path, size = self._file.path, self._part_file.layout.size
        if not self._part_file.bind(body.etag):
            raise ChangedError(f"{path} changed at the source during the download")
        if body.total is not None and body.total != size:
            raise IntegrityError(f"{path}: the source's file has {body.total} bytes, expected {size}.")
        if body.start != start or (body.whole and (start, end) != (0, size)):
            raise RangesError(f"{path}: the source returned another range than requested")

    def _receive(self, body: Body, index: int, end: int) -> None:
        stall = StallDetector(self._context.limits)
        clock = time.monotonic
        while True:
            began = clock()
            data = body.read()
            stall.add(len(data), clock() - began)
            if not data:
                break
            if self._part_file.position(index) + len(data) > end:
                raise IntegrityError(f"{self._file.path}: the source sent more bytes than it announced.")
            offset = self._part_file.write(index, data)
            if offset == 0 and len(data) >= sniff.HEAD:
                sniff.check(self._file.path, data[: sniff.HEAD])
            self.digest.feed(offset, data)
            self._context.reporter.add(len(data))
            self._context.retry.check()
        if is_incomplete(self._part_file, index):
            raise TransientError(f"{self._file.path}: the response ended early")

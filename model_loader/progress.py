"""What a run reports: one JSON object per line, or a progress bar on a terminal."""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

INTERVAL_S = 5.0
# Names a file that a program which started the loader follows: the same lines are appended to it, more often.
FOLLOWED = "MODEL_LOADER_EVENTS"
FOLLOWED_INTERVAL_S = 0.5


class Reporter(Protocol):
    """Receives byte counts and events; several threads call it."""

    def expect(self, total: int) -> None:
        """Take the number of bytes that the run will move; another source begins to count anew."""

    def add(self, count: int) -> None:
        """Count ``count`` bytes that arrived."""

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401  -- any JSON value
        """Report something that happened."""


class Silent:
    """Reports nothing; for callers that only use the result."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def add(self, count: int) -> None:
        """Do nothing."""

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Do nothing."""


class JsonLines:
    """One JSON object per line; progress at most every ``interval_s`` seconds."""

    def __init__(self, stream: IO[str] | None = None, interval_s: float = INTERVAL_S) -> None:
        self._stream = stream or sys.stdout
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._total = self._done = self._reported = 0
        self._reported_at = self._began = time.monotonic()

    def expect(self, total: int) -> None:
        """Take the number of bytes that the run will move, and count them from 0."""
        with self._lock:
            self._total, self._done, self._reported = total, 0, 0

    def add(self, count: int) -> None:
        """Count bytes; print progress if the last report is old enough."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._reported_at < self._interval_s:
                return
            rate = (self._done - self._reported) / (now - self._reported_at)
            self._reported, self._reported_at = self._done, now
            left = round((self._total - self._done) / rate, 1) if rate > 0 and self._total else None
            self._print(
                "progress",
                bytes=self._done,
                total=self._total,
                bytes_per_second=round(rate),
                seconds_left=left,
            )

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Print one event."""
        with self._lock:
            self._print(kind, **fields)

    def _print(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        elapsed = round(time.monotonic() - self._began, 3)
        line = json.dumps({"event": kind, **fields, "elapsed_s": elapsed}, ensure_ascii=False, default=str)
        print(line, file=self._stream, flush=True)


class Followed:
    """JSON lines on standard output, and more often in ``file`` if any, as a context manager."""

    def __init__(self, file: str | None) -> None:
        # Whole lines, for a reader at the same time; a file that cannot be written must not end a download.
        self._file: IO[str] | None = None
        if file:
            with contextlib.suppress(OSError):
                self._file = Path(file).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._all: list[Reporter] = [JsonLines()]
        if self._file is not None:
            self._all.append(JsonLines(self._file, FOLLOWED_INTERVAL_S))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def expect(self, total: int) -> None:
        """Take the number of bytes that the run will move, and count them from 0."""
        for reporter in self._all:
            reporter.expect(total)

    def add(self, count: int) -> None:
        """Count bytes."""
        for reporter in self._all:
            reporter.add(count)

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Print one event."""
        for reporter in self._all:
            reporter.event(kind, **fields)


class Bar:
    """A progress bar for terminals, used as a context manager; events are printed above it."""

    def __init__(self, what: str = "fetching") -> None:
        from rich import progress  # slow to import, and a pod or a unit never needs it
        from rich.console import Console

        self._console = Console(stderr=True)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def expect(self, total: int) -> None:
        """Set the length of the bar in bytes."""
        self._progress.reset(self._task, total=total)

    def add(self, count: int) -> None:
        """Advance the bar by ``count`` bytes."""
        self._progress.advance(self._task, count)

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Print one event above the bar."""
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        self._console.print(f"{kind}: {text}", markup=False, highlight=False)

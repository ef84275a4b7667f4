"""What a run says: one JSON object per line; on a terminal a bar, of ``bar``."""

import json
import sys
import threading
import time
from typing import IO, Any, Protocol

EVERY_S = 5.0


class Reporter(Protocol):
    """Hears of bytes and events; called from several threads."""

    def expect(self, total: int) -> None:
        """Hear how many bytes the run will move."""

    def add(self, count: int) -> None:
        """Hear of ``count`` bytes that arrived."""

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401  -- any JSON value
        """Hear of something that happened."""


class Silent:
    """Says nothing; for callers that only want the result."""

    def expect(self, total: int) -> None:
        """Ignore."""

    def add(self, count: int) -> None:
        """Ignore."""

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Ignore."""


class JsonLines:
    """One JSON object per line, progress every five seconds."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._total = self._done = self._said = 0
        self._said_at = self._began = time.monotonic()

    def expect(self, total: int) -> None:
        """Hear how many bytes the run will move."""
        self._total = total

    def add(self, count: int) -> None:
        """Count bytes; now and then say how many."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._said_at < EVERY_S:
                return
            rate = (self._done - self._said) / (now - self._said_at)
            self._said, self._said_at = self._done, now
            self._print("progress", bytes=self._done, total=self._total, bytes_per_second=round(rate))

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Print one event."""
        with self._lock:
            self._print(kind, **fields)

    def _print(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        elapsed = round(time.monotonic() - self._began, 3)
        line = json.dumps({"event": kind, **fields, "elapsed_s": elapsed}, ensure_ascii=False, default=str)
        print(line, file=self._stream, flush=True)

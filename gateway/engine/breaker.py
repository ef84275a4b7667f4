"""A circuit breaker: while an engine is known to be down, requests fail at once instead of waiting for it."""

import time
from collections.abc import Callable

from gateway.errors import unavailable


class Breaker:
    """Opens after ``threshold`` failures in a row; after ``pause_s`` seconds one request may try again."""

    def __init__(
        self, threshold: int = 3, pause_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def check(self) -> None:
        """Let a request through, or raise 503 while open; the first one after the pause is the probe."""
        if self._failures < self._threshold:
            return
        wait = self._open_until - self._clock()
        if wait > 0:
            raise unavailable("The model server is not reachable. Try again shortly.", max(wait, 1.0))
        self._open_until = self._clock() + self._pause_s

    def record_failure(self) -> None:
        """Count a failure to reach the engine."""
        self._failures += 1
        self._open_until = self._clock() + self._pause_s

    def record_success(self) -> None:
        """Close the breaker: the engine answered, with whatever status."""
        self._failures = 0

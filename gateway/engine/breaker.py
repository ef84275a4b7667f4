"""A circuit breaker: while an engine is known to be down, callers hear it at once."""

import time
from collections.abc import Callable

from gateway.errors import unavailable


class Breaker:
    """Opens after ``threshold`` failures in a row; after ``pause_s`` seconds one caller may try again."""

    def __init__(
        self, threshold: int = 3, pause_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    def check(self) -> None:
        """Raise 503 while open; let the first caller after the pause through as the probe."""
        if self._failures < self._threshold:
            return
        wait = self._closed_until - self._clock()
        if wait > 0:
            raise unavailable("The model server is not reachable. Try again shortly.", max(wait, 1.0))
        self._closed_until = self._clock() + self._pause_s

    def failed(self) -> None:
        """Count a failure to reach the engine."""
        self._failures += 1
        self._closed_until = self._clock() + self._pause_s

    def succeeded(self) -> None:
        """Close: the engine answered, whatever it said."""
        self._failures = 0

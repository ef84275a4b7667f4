"""When to try again, how long to wait, and when to give up."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TypeVar

from model_loader.errors import Stopped, TransientError

T = TypeVar("T")

PROGRESS = (
    64 * 1024
)  # bytes that count as progress: a source that gives one byte per connection is not recovering


def retry_after(value: str | None, date: str | None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for (RFC 9110 §10.2.3), never negative, or None.

    A date is read against the response's own ``Date``, so a wrong clock here does not matter.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(int(value)))
    except ValueError:
        pass
    try:
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError):
        return None


@dataclass
class RetryPolicy:
    """The limits of one run: tries without progress, seconds per wait, and the whole run's deadline.

    ``deadline`` is on the monotonic clock, which no time step moves.
    """

    tries: int = 6
    base_s: float = 0.5
    cap_s: float = 60.0
    deadline: float = field(default_factory=lambda: time.monotonic() + 6 * 3600)
    stop: threading.Event = field(default_factory=threading.Event)
    on_retry: Callable[[str, float], None] = lambda _message, _delay: None

    def check(self) -> None:
        """Raise Stopped when the run must end."""
        if self.stop.is_set():
            raise Stopped("stopped; run the same command again to continue from the byte reached.")
        if time.monotonic() >= self.deadline:
            raise Stopped(
                "the overall deadline passed; run the same command again to continue (see --deadline)."
            )

    def delay(self, attempt: int, asked: float | None) -> float:
        """Return the seconds to wait before try ``attempt`` (from 1): jittered doubling or what is asked."""
        doubled = self.base_s * 2 ** min(attempt - 1, 16)
        jittered = random.uniform(doubled / 2, doubled)  # noqa: S311  -- spreads retries, guards nothing
        return min(max(jittered, asked or 0.0), self.cap_s)


class RetryState:
    """Counts the failures of one piece of work since it last made progress."""

    def __init__(self, patience: RetryPolicy) -> None:
        self._patience = patience
        self._failed = 0

    def failed(self, error: TransientError, progressed: int) -> None:
        """Wait before the next try, or raise ``error`` when tries or time are spent."""
        self._failed = 1 if progressed >= PROGRESS else self._failed + 1
        if self._failed >= self._patience.tries:
            raise error
        delay = self._patience.delay(self._failed, error.retry_after)
        if time.monotonic() + delay >= self._patience.deadline:
            raise Stopped(f"the overall deadline passes before the next try; last fault: {error}") from error
        self._patience.on_retry(str(error), delay)
        self._patience.stop.wait(delay)
        self._patience.check()


def retrying(patience: RetryPolicy, work: Callable[[], T]) -> T:
    """Return ``work()``, tried again on TransientError within the limits of ``patience``."""
    tries = RetryState(patience)
    while True:
        patience.check()
        try:
            return work()
        except TransientError as error:
            tries.failed(error, 0)

"""Decides when to try again, how long to wait, and when to give up."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TypeVar

from model_loader.errors import Stopped, TransientError

T = TypeVar("T")

# Bytes that count as progress: a source that sends one byte per connection is not recovering.
PROGRESS = 64 * 1024


def retry_after(value: str | None, date: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110 §10.2.3), not negative, or None.

    A date is compared with the response's own ``Date``, so a wrong clock on this machine has no effect.
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
    """The limits of one run.

    Attributes:
        tries: consecutive tries without progress after which the last error is raised.
        base_s: seconds to wait before the second try; each further try doubles them.
        cap_s: longest wait between two tries in seconds, whatever the server asks for.
        deadline: end of the whole run, on the monotonic clock, which is independent of the system time.
        stop: set it, from any thread, to end the run.
        on_retry: called with the reason and the seconds before each wait.

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
            raise Stopped("stopped; run the same command again to resume the download.")
        if time.monotonic() >= self.deadline:
            raise Stopped(
                "the deadline of the run passed; run the same command again to resume (see --set deadline)."
            )

    def delay(self, attempt: int, requested: float | None) -> float:
        """Return the seconds to wait before retry ``attempt`` (from 1).

        The wait doubles with each attempt, with jitter; it is at least the seconds that the server
        ``requested``, and at most ``cap_s``.
        """
        doubled = self.base_s * 2 ** min(attempt - 1, 16)
        jittered = random.uniform(doubled / 2, doubled)  # noqa: S311  -- spreads retries, guards nothing
        return min(max(jittered, requested or 0.0), self.cap_s)


class RetryState:
    """Counts the failures of one piece of work since its last progress."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def failed(self, error: TransientError, progressed: int) -> None:
        """Wait before the next try. ``progressed`` is the number of bytes that the failed try transferred.

        Raises ``error`` when the tries are used up, and Stopped when the deadline leaves no time to wait.
        """
        self._failures = 1 if progressed >= PROGRESS else self._failures + 1
        if self._failures >= self._policy.tries:
            raise error
        delay = self._policy.delay(self._failures, error.retry_after)
        if time.monotonic() + delay >= self._policy.deadline:
            raise Stopped(f"the deadline passes before the next try; last error: {error}") from error
        self._policy.on_retry(str(error), delay)
        self._policy.stop.wait(delay)
        self._policy.check()


def retrying(policy: RetryPolicy, work: Callable[[], T]) -> T:
    """Return ``work()``, tried again on TransientError within the limits of ``policy``.

    Raises the last TransientError when the tries are used up, and Stopped when the run must end.
    """
    state = RetryState(policy)
    while True:
        policy.check()
        try:
            return work()
        except TransientError as error:
            state.failed(error, 0)

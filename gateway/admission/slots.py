"""The concurrent-request slots at the engine: how many are in use, by whom, and what one caller may hold.

Where one caller holds all slots, a fair queue still makes the next caller wait for the end of a completion.
So a caller that holds the rest may not take the last eighth of the slots, at least one, as long as another
caller has sent a request within the last seconds (docs/adr/0008). A caller that is alone may take all.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

# With fewer slots than these, one kept free would cost more than it gives.
_MIN_SIZE = 4
_RECENT_S = 10.0


class Slots:
    """``size`` slots; every operation takes constant time, amortised."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._clock = size, clock
        self._max_per_caller = size - max(1, size // 8) if size >= _MIN_SIZE else size
        self._held: Counter[str] = Counter()
        self._last_request: OrderedDict[str, float] = OrderedDict()
        # The caller that holds its maximum: more than half of the slots, so there is at most one.
        self._at_max: str | None = None
        self.in_use = 0

    @property
    def all_in_use(self) -> bool:
        """Whether no caller can get a slot now."""
        return self.in_use >= self._size

    def record_request(self, caller: str) -> None:
        """Record that ``caller`` sent a request."""
        self._last_request[caller] = self._clock()
        self._last_request.move_to_end(caller)

    def capped_caller(self) -> str | None:
        """Return the caller that may not have more slots for now, if there is one."""
        return self._at_max if self._at_max is not None and self._has_others(self._at_max) else None

    def acquire(self, caller: str) -> None:
        """Give a slot to ``caller``."""
        self.in_use += 1
        self._held[caller] += 1
        if self._held[caller] >= self._max_per_caller:
            self._at_max = caller

    def release(self, caller: str) -> None:
        """Free a slot that ``caller`` held."""
        self.in_use -= 1
        self._held[caller] -= 1
        if caller == self._at_max and self._held[caller] < self._max_per_caller:
            self._at_max = None
        if not self._held[caller]:
            del self._held[caller]

    def _has_others(self, caller: str) -> bool:
        oldest = self._clock() - _RECENT_S
        while self._last_request and next(iter(self._last_request.values())) < oldest:
            self._last_request.popitem(last=False)
        return len(self._last_request) > (caller in self._last_request)

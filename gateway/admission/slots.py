"""The places at the engine: how many are taken, by whom, and the few that no single caller may take.

Where one caller holds them all, a fair queue still makes the next one wait for the end of a completion. So an
eighth of them, at least one, is out of reach for a caller that holds the rest, as long as another caller was
here within the last seconds (docs/adr/0008). A caller that is alone has them all.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

# With fewer places than these, one kept free would cost more than it gives.
_FEWEST = 4
_RECENT_S = 10.0


class Slots:
    """``size`` places; every operation takes constant time, spread over the calls."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._clock = size, clock
        self._most_of_one = size - max(1, size // 8) if size >= _FEWEST else size
        self._held: Counter[str] = Counter()
        self._seen: OrderedDict[str, float] = OrderedDict()
        # The one that holds as many as one may; most places are more than half, so there is no second.
        self._largest: str | None = None
        self.taken = 0

    @property
    def all_taken(self) -> bool:
        """Whether nobody can have a place now."""
        return self.taken >= self._size

    def seen(self, caller: str) -> None:
        """Note that ``caller`` asked for a place."""
        self._seen[caller] = self._clock()
        self._seen.move_to_end(caller)

    def restrained(self) -> str | None:
        """Return the caller that may have no more places for now, if there is one."""
        return self._largest if self._largest is not None and self._others(self._largest) else None

    def take(self, caller: str) -> None:
        """Give a place to ``caller``."""
        self.taken += 1
        self._held[caller] += 1
        if self._held[caller] >= self._most_of_one:
            self._largest = caller

    def leave(self, caller: str) -> None:
        """Free a place that ``caller`` had."""
        self.taken -= 1
        self._held[caller] -= 1
        if caller == self._largest and self._held[caller] < self._most_of_one:
            self._largest = None
        if not self._held[caller]:
            del self._held[caller]

    def _others(self, caller: str) -> bool:
        oldest = self._clock() - _RECENT_S
        while self._seen and next(iter(self._seen.values())) < oldest:
            self._seen.popitem(last=False)
        return len(self._seen) > (caller in self._seen)

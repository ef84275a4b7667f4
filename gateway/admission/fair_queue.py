"""A bounded queue that takes turns between callers; every operation takes constant time.

Inside one caller the order is first come, first served. When the queue is full, a newcomer displaces the
latest request of the caller that holds the most places, provided that caller holds more than the newcomer's
would; so a caller that floods the queue displaces only itself.
"""

from collections import OrderedDict, defaultdict
from itertools import islice
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")


class FairQueue(Generic[Waiter]):
    """Waiters by caller; ``Waiter`` must be hashable and unique."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._length = 0
        self._turns: OrderedDict[str, OrderedDict[Waiter, None]] = OrderedDict()
        # Callers by how many places they hold, so that the one with the most is found without a search.
        self._by_count: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._most = 0

    def __len__(self) -> int:
        return self._length

    def waiting(self, caller: str) -> int:
        """Return how many places ``caller`` holds."""
        return len(self._turns.get(caller, ()))

    def push(self, caller: str, waiter: Waiter) -> tuple[bool, Waiter | None]:
        """Queue ``waiter``; return whether it got a place and the waiter it displaced, if any."""
        displaced = None
        if self._length >= self._size:
            if self._most <= self.waiting(caller) + 1:
                return False, None
            displaced = self._displace()
        row = self._turns.setdefault(caller, OrderedDict())
        row[waiter] = None
        self._moved(caller, len(row) - 1, len(row))
        return True, displaced

    def pop(self, but: str | None = None) -> tuple[str, Waiter] | None:
        """Take the first waiter of the caller whose turn it is, not of ``but``; None if nobody else waits."""
        turns = islice(self._turns.items(), 2)
        caller, row = next(((caller, row) for caller, row in turns if caller != but), ("", None))
        if row is None:
            return None
        waiter, _ = row.popitem(last=False)
        self._turns.move_to_end(caller)
        self._left(caller, row)
        return caller, waiter

    def discard(self, caller: str, waiter: Waiter) -> None:
        """Free the place of a waiter that gave up; one that is no longer queued is ignored."""
        row = self._turns.get(caller)
        if row is None or waiter not in row:
            return
        del row[waiter]
        self._left(caller, row)

    def _displace(self) -> Waiter:
        caller = next(iter(self._by_count[self._most]))
        row = self._turns[caller]
        waiter, _ = row.popitem(last=True)
        self._left(caller, row)
        return waiter

    def _left(self, caller: str, row: "OrderedDict[Waiter, None]") -> None:
        self._moved(caller, len(row) + 1, len(row))
        if not row:
            del self._turns[caller]

    def _moved(self, caller: str, before: int, after: int) -> None:
        """Keep the counts; the highest one moves by one at a time, so it is followed, not searched."""
        self._length += after - before
        if before:
            del self._by_count[before][caller]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count[after][caller] = None
        if after > self._most or (before == self._most and before not in self._by_count):
            self._most = after

"""A bounded queue that takes turns between callers; every operation takes constant time.

The order of one caller's requests is first in, first out. When the queue is full, a newcomer displaces the
latest request of the caller with the most requests in it, provided that caller has more than the newcomer
would have; so a caller that floods the queue displaces only itself.
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
        # Callers by their number of waiters, so that the largest is found without a search.
        self._by_count: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._largest_count = 0

    def __len__(self) -> int:
        return self._length

    def count(self, caller: str) -> int:
        """Return how many waiters ``caller`` has."""
        return len(self._turns.get(caller, ()))

    def accepts(self, caller: str) -> bool:
        """Return whether ``push`` would queue another waiter of ``caller``."""
        return self._length < self._size or self._largest_count > self.count(caller) + 1

    def push(self, caller: str, waiter: Waiter) -> tuple[bool, Waiter | None]:
        """Queue ``waiter``; return whether it was queued, and the waiter it displaced, if any."""
        displaced = None
        if not self.accepts(caller):
            return False, None
        if self._length >= self._size:
            displaced = self._displace()
        waiters = self._turns.setdefault(caller, OrderedDict())
        waiters[waiter] = None
        self._update_counts(caller, len(waiters) - 1, len(waiters))
        return True, displaced

    def replace(self, caller: str, waiter: Waiter, newer: Waiter) -> None:
        """Put ``newer`` into the queue instead of ``waiter``, which is in it; the caller keeps its turn."""
        waiters = self._turns[caller]
        del waiters[waiter]
        waiters[newer] = None

    def pop(self, skip: str | None = None) -> tuple[str, Waiter] | None:
        """Take the first waiter of the caller whose turn it is, except ``skip``; None if no other waits."""
        turns = islice(self._turns.items(), 2)
        caller, waiters = next(((caller, waiters) for caller, waiters in turns if caller != skip), ("", None))
        if waiters is None:
            return None
        waiter, _ = waiters.popitem(last=False)
        self._turns.move_to_end(caller)
        self._after_removal(caller, waiters)
        return caller, waiter

    def discard(self, caller: str, waiter: Waiter) -> None:
        """Remove a waiter that gave up; one that is no longer queued is ignored."""
        waiters = self._turns.get(caller)
        if waiters is None or waiter not in waiters:
            return
        del waiters[waiter]
        self._after_removal(caller, waiters)

    def _displace(self) -> Waiter:
        caller = next(iter(self._by_count[self._largest_count]))
        waiters = self._turns[caller]
        waiter, _ = waiters.popitem(last=True)
        self._after_removal(caller, waiters)
        return waiter

    def _after_removal(self, caller: str, waiters: "OrderedDict[Waiter, None]") -> None:
        self._update_counts(caller, len(waiters) + 1, len(waiters))
        if not waiters:
            del self._turns[caller]

    def _update_counts(self, caller: str, before: int, after: int) -> None:
        """Keep the counts; the highest one changes by one at a time, so it is followed, not searched."""
        self._length += after - before
        if before:
            del self._by_count[before][caller]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count[after][caller] = None
        if after > self._largest_count or (before == self._largest_count and before not in self._by_count):
            self._largest_count = after

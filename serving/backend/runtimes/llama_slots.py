"""Which of llama.cpp's slots a row gets.

A slot keeps the keys and values of its last row, so a row whose prompt begins like that one is answered
sooner there. And slots that lie side by side generate in one pass: where one of them is not in use,
llama.cpp reads the weights once for the slots before it and once for those behind it (docs/adr/0018).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..requests import OutputRow

# A beginning in common that is worth its slot, as a share of the prompt: llama.cpp's own measure.
_SIMILAR = 0.1
# Longer than a step of llama.cpp takes; after that, another slot is better than none.
_WAIT_S = 1.0


@dataclass(eq=False, slots=True)
class Slot:
    """One of llama.cpp's slots, and what is in its cache."""

    index: int
    row: OutputRow | None = None
    read: int = 0
    """How many tokens of the row's prompt are in the cache so far; who holds the slot sets it."""
    cached: Sequence[int] = ()
    used: int = 0
    """When it was last held: a greater number is later."""

    def shared(self, prompt: Sequence[int]) -> int:
        """Return how many tokens at the beginning of ``prompt`` are in the cache."""
        return common_prefix(self.cached, prompt)


class Slots:
    """The slots of one server. Rows hold different ones; a row waits while all are held."""

    def __init__(self, count: int, wait_s: float = _WAIT_S) -> None:
        """Make ``count`` slots.

        ``wait_s``: how long a row waits for the slot that a stopped row with its prompt still holds.
        """
        self._slots = [Slot(index) for index in range(count)]
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._turn = 0
        self.waiting = 0

    @contextmanager
    def hold(self, row: OutputRow) -> Iterator[Slot]:
        """Hold a slot for the row. A row that is stopped while it waits gets one as well.

        A cancelled row holds its slot until the end of the current step. Its successor, which comes first as
        a rule, waits for it: on another slot it would begin from nothing, and take a cache that somebody else
        needs.
        """
        slot = self._take(row)
        try:
            yield slot
        finally:
            self._give_back(slot, row)

    def _take(self, row: OutputRow) -> Slot:
        with self._changed:
            self.waiting += 1
            try:
                self._changed.wait_for(lambda: not self._predecessor(row), self._wait_s)
                self._changed.wait_for(lambda: any(slot.row is None for slot in self._slots))
            finally:
                self.waiting -= 1
            slot = self._best(row)
            slot.row, slot.read = row, 0
            return slot

    def _give_back(self, slot: Slot, row: OutputRow) -> None:
        """Note what the cache holds: the last token that was generated has not been read."""
        with self._changed:
            slot.cached = [*row.prompt, *row.ids[:-1]] if row.ids else row.prompt[: slot.read]
            slot.row = None
            self._turn += 1
            slot.used = self._turn
            self._changed.notify_all()

    def _predecessor(self, row: OutputRow) -> bool:
        """Return whether a stopped row still runs that has cached at least half of this row's prompt."""
        half = row.prompt[: len(row.prompt) // 2]
        rows = [slot.row for slot in self._slots if slot.row is not None]
        return any(other.request.stopped and other.prompt[: len(half)] == half for other in rows)

    def _best(self, row: OutputRow) -> Slot:
        free = [slot for slot in self._slots if slot.row is None]
        shared, similar = max(
            ((slot.shared(row.prompt), slot) for slot in free), key=lambda pair: (pair[0], -pair[1].index)
        )
        if shared > _SIMILAR * len(row.prompt):
            return similar
        oldest = sorted(free, key=lambda slot: slot.used)
        if len(free) == len(self._slots):
            return oldest[0]
        # The newest quarter keep their caches.
        return max(oldest[: (3 * len(free) + 3) // 4], key=self._fits)

    def _fits(self, slot: Slot) -> tuple[int, bool]:
        """Return how many slots in use this one would join, and whether it has slots on both sides.

        Slots at the ends are taken last, because they leave no gap.
        """
        last = len(self._slots) - 1
        before = self._in_use(range(slot.index - 1, -1, -1))
        return before + self._in_use(range(slot.index + 1, last + 1)), 0 < slot.index < last

    def _in_use(self, indexes: Sequence[int]) -> int:
        count = 0
        for index in indexes:
            if self._slots[index].row is None:
                break
            count += 1
        return count


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

"""Counters per user for the users that use most, and one for all others: a bounded number of series."""

from collections import OrderedDict
from collections.abc import Callable

OTHER = "other"
# A newcomer needs twice the smallest count, or two users of equal use would replace each other all the time.
_MARGIN = 2
_REMEMBERED = 10


class TopUsers:
    """Which ``size`` users have a name in the metrics. Of the others, ten times as many are remembered.

    Every use is counted once, at its time, under a name or under ``OTHER``: a user's series ends when a
    heavier user takes its place, so rates stay right where totals per user would not.
    """

    def __init__(self, size: int, dropped: Callable[[str], None]) -> None:
        """Call ``dropped`` with a user that loses its name."""
        self._size, self._dropped = size, dropped
        self._named: dict[str, float] = {}
        self._others: OrderedDict[str, float] = OrderedDict()

    def label(self, user: str, weight: float = 0.0) -> str:
        """Return the label under which to count ``user``, who has just used ``weight`` more."""
        if user in self._named:
            self._named[user] += weight
            return user
        used = self._others.pop(user, 0.0) + weight
        if len(self._named) < self._size or self._replaces(used):
            self._named[user] = used
            return user
        self._others[user] = used
        if len(self._others) > self._size * _REMEMBERED:
            self._others.popitem(last=False)
        return OTHER

    def _replaces(self, used: float) -> bool:
        """Make room for a user that has used that much; return whether there is any."""
        if not self._named:
            return False
        least = min(self._named, key=self._named.__getitem__)
        if used <= self._named[least] * _MARGIN:
            return False
        self._others[least] = self._named.pop(least)
        self._dropped(least)
        return True

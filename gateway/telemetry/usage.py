"""Each caller's usage since the process started, which ``assist keys usage`` reads from the metrics port."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class CallerUsage:
    """Counters of one caller; ``last`` is Unix time in seconds."""

    user: str
    requests: int = 0
    refused: int = 0
    tokens: int = 0
    last: float = 0.0


class Usage:
    """The usage of at most ``size`` callers, the least recently seen dropped first."""

    def __init__(self, size: int = 10_000, now: Callable[[], float] = time.time) -> None:
        self._size, self._now = size, now
        self._callers: OrderedDict[str, CallerUsage] = OrderedDict()

    def add(self, caller_id: str, user: str, *, requests: int = 0, refused: int = 0, tokens: int = 0) -> None:
        """Add to a caller's counters."""
        use = self._callers.get(caller_id)
        if use is None:
            use = self._callers[caller_id] = CallerUsage(user)
            if len(self._callers) > self._size:
                self._callers.popitem(last=False)
        use.requests += requests
        use.refused += refused
        use.tokens += tokens
        use.last = self._now()
        self._callers.move_to_end(caller_id)

    def snapshot(self) -> dict[str, dict[str, object]]:
        """Return a copy by caller id, safe to read from another thread."""
        return {caller: asdict(use) for caller, use in tuple(self._callers.items())}

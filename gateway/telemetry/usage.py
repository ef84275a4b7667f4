"""What each caller used since the process started; ``assist keys usage`` reads it on the metrics port."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Use:
    """Counters of one caller; ``last`` is Unix time in seconds."""

    user: str
    requests: int = 0
    refused: int = 0
    tokens: int = 0
    last: float = 0.0


class Usage:
    """Bounded table of callers, least recently seen forgotten first."""

    def __init__(self, size: int = 10_000, now: Callable[[], float] = time.time) -> None:
        self._size, self._now = size, now
        self._callers: OrderedDict[str, Use] = OrderedDict()

    def add(self, caller_id: str, user: str, *, requests: int = 0, refused: int = 0, tokens: int = 0) -> None:
        """Add to a caller's counters."""
        use = self._callers.get(caller_id)
        if use is None:
            use = self._callers[caller_id] = Use(user)
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

"""Holding requests while the engine is replaced, for a bounded time.

A host with one GPU has no second engine to turn to: its Triton goes and comes back with the model loaded.
The requests of that time keep their places in the gateway's bounded admission, and are sent once the engine
is there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

# Between two questions whether the engine is back, and before a request goes to an engine that says it is.
_POLL_S = 0.1


class Outage:
    """The engine's absence: it begins with a failure to reach it and ends with the first answer.

    ``hold_s`` seconds of it requests are held, then they are refused; 0 never holds. The time counts from the
    absence's beginning and not per request: from then on callers of a dead engine hear so at once.
    """

    def __init__(
        self, hold_s: float, ready: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hold_s = hold_s
        self._ready = ready
        self._clock = clock
        self._until: float | None = None
        self._watch: asyncio.Task[bool] | None = None

    @property
    def holding(self) -> bool:
        """Say whether the engine is away and requests are to wait for it."""
        return self._until is not None and self._clock() < self._until

    def began(self) -> None:
        """Note that the engine could not be reached."""
        if self._until is None:
            self._until = self._clock() + self._hold_s

    def ended(self) -> None:
        """Note that the engine answered a request."""
        self._until = None

    async def over(self, end: float) -> bool:
        """Wait until the engine is ready; ``False`` when the hold, or the request at ``end``, is over before.

        One task asks for all who wait, so that an engine which starts is not asked by every one of them.
        """
        if not self.holding:
            return False
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._until_ready())
        try:
            async with asyncio.timeout(max(0.0, end - self._clock())):
                return await asyncio.shield(self._watch)
        except TimeoutError:
            return False

    async def close(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    async def _until_ready(self) -> bool:
        while self.holding:
            # First the pause: an engine that is stopping still calls itself ready for a moment.
            await asyncio.sleep(_POLL_S)
            if await self._ready():
                return True
        # It served somebody meanwhile, perhaps its last request: who asks now may still have to wait again.
        return self._until is None

"""Stopping without losing a request.

After SIGTERM the gateway serves for ``drain_delay_s`` longer while ``/ready`` answers 503, so that a load
balancer can take it out; then new requests get 503 with ``Connection: close`` while those under way have
``grace_s`` to finish. A client that has sent half a body does not delay the stop: it gets one more second.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_BODY_GRACE_S = 1.0


class Drain:
    """The lifecycle of one process, seen by the middlewares, the readiness route and the server."""

    def __init__(self) -> None:
        self.stopping = False
        self.refusing = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._reading: set[asyncio.Timeout] = set()

    @property
    def under_way(self) -> int:
        """How many requests have not been answered yet."""
        return self._under_way

    def begin(self) -> None:
        """Report the gateway as not ready from now on; safe to call from a signal handler."""
        self.stopping = True

    def refuse(self) -> None:
        """Refuse new requests from now on, and end the wait for unfinished bodies after a second."""
        self.stopping = self.refusing = True
        end = asyncio.get_running_loop().time() + _BODY_GRACE_S
        for timeout in tuple(self._reading):
            if (when := timeout.when()) is None or when > end:
                timeout.reschedule(end)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request as under way."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @contextmanager
    def reading(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Let ``refuse`` shorten the wait for a body."""
        self._reading.add(timeout)
        try:
            yield
        finally:
            self._reading.discard(timeout)

    async def wait_until_idle(self, within_s: float) -> bool:
        """Wait until no request is under way; return whether that happened within ``within_s``."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

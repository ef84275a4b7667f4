"""Getting through to a server that may be away: told at once, tried once more, or held until it is back."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from api.engine import rpc_errors
from api.engine.breaker import Breaker
from api.engine.outage import Outage

_RETRY_AFTER_S = 0.03


class Reach:
    """What is known of one server's presence, from the outcomes of the calls to it.

    ``ready`` asks whether it can be used now, ``connected`` waits a moment for a connection; neither raises.
    Times ``end`` are on the clock of ``time.monotonic``.
    """

    def __init__(
        self, ready: Callable[[], Awaitable[bool]], connected: Callable[[], Awaitable[None]], hold_s: float
    ) -> None:
        self._connected = connected
        self._breaker = Breaker()
        self._outage = Outage(hold_s, ready)

    async def admitted(self, end: float) -> None:
        """Return when the server may be asked; raises 503 while it is known to be down."""
        if not await self._outage.over(end):
            self._breaker.check()

    async def again(self, error: grpc.aio.AioRpcError, attempt: int, end: float) -> bool:
        """Say whether to make a failed call again: after the first attempt, or while requests are held."""
        unreachable = rpc_errors.is_unreachable(error)
        if not unreachable and not rpc_errors.is_without_model(error):
            return False
        if await self._outage.over(end):
            return True
        once_more = unreachable and attempt == 1
        if once_more:
            # Between two attempts to connect, the channel fails every call at once.
            await asyncio.sleep(_RETRY_AFTER_S)
            await self._connected()
        return once_more

    async def back(self, end: float) -> bool:
        """Wait for a server that has no model, as one that stops or starts; ``False``: none came."""
        self._outage.began()
        return await self._outage.over(end)

    def failed(self, error: grpc.aio.AioRpcError) -> bool:
        """Note a failed call; ``True`` when the server, or its model, was not there."""
        unreachable = rpc_errors.is_unreachable(error)
        if unreachable:
            self._breaker.failed()
        absent = unreachable or rpc_errors.is_without_model(error)
        if absent:
            self._outage.began()
        return absent

    def present(self) -> None:
        """Note that the server is there."""
        self._breaker.succeeded()

    def served(self) -> None:
        """Note that the server worked on a request."""
        self._breaker.succeeded()
        self._outage.ended()

    async def close(self) -> None:
        """End what runs beside the requests."""
        await self._outage.close()

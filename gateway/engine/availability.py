"""Getting through to a server that may be away: told at once, tried once more, or held until it is back."""

import asyncio
from typing import Protocol

import grpc

from gateway.engine import rpc_errors
from gateway.engine.breaker import Breaker
from gateway.engine.outage import Outage
from gateway.errors import unavailable

_RETRY_AFTER_S = 0.03


class Server(Protocol):
    """What is asked about; nothing here raises."""

    @property
    def offered(self) -> bool:
        """Say whether requests may go to it, as far as its operator is concerned."""
        ...

    async def ready(self) -> bool:
        """Say whether it can be used now."""
        ...

    async def connected(self) -> None:
        """Wait a moment for a connection."""
        ...


class Availability:
    """What is known of a server's presence, from its operator and from the outcomes of the calls to it.

    Times ``end`` are on the clock of ``time.monotonic``.
    """

    def __init__(self, server: Server, hold_s: float) -> None:
        self._server = server
        self._breaker = Breaker()
        self._outage = Outage(hold_s, server.ready)

    async def admitted(self, end: float) -> None:
        """Return when the server may be asked; raises 503 while it is known to be down."""
        while not self._server.offered:
            if not await self.back(end):
                raise unavailable("The model server is being replaced. Try again shortly.")
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
            await self._server.connected()
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

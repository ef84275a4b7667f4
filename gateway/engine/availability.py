"""Whether the model server can be reached, and what a request does while it cannot: fail, retry or wait.

A host with one GPU has no second server to fail over to: its Triton stops and returns with the model loaded.
Requests that arrive meanwhile keep their slots in the gateway's bounded admission and are sent once the
server is ready again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import grpc

from gateway.engine import rpc_errors
from gateway.engine.breaker import Breaker
from gateway.errors import unavailable

_RETRY_AFTER_S = 0.03
# Between two readiness checks of an absent server, and before a request is sent to one that says it is ready.
_POLL_S = 0.1


class Server(Protocol):
    """The server whose availability is tracked; no member raises."""

    @property
    def accepts_requests(self) -> bool:
        """Return whether the operator lets requests go to the server."""
        ...

    async def ready(self) -> bool:
        """Return whether the server can be used now."""
        ...

    async def wait_for_connection(self) -> None:
        """Wait a moment for a connection."""
        ...


class Outage:
    """One server's absence: from the first failure to reach it until its first response.

    For ``wait_s`` seconds of the absence requests wait, then they fail; with 0 they fail at once. The time
    runs from the beginning of the absence, not per request, so that callers of a dead server learn it soon.
    """

    def __init__(
        self, wait_s: float, ready: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wait_s = wait_s
        self._ready = ready
        self._clock = clock
        self._wait_until: float | None = None
        self._watch: asyncio.Task[bool] | None = None

    @property
    def requests_wait(self) -> bool:
        """Return whether the server is absent and requests still wait for its return."""
        return self._wait_until is not None and self._clock() < self._wait_until

    def begin(self) -> None:
        """Record that the server could not be reached; only the first call of an absence counts."""
        if self._wait_until is None:
            self._wait_until = self._clock() + self._wait_s

    def end(self) -> None:
        """Record that the server responded to a request."""
        self._wait_until = None

    async def wait_until_ready(self, end: float) -> bool:
        """Return ``True`` once the server is ready, ``False`` when the waiting time or ``end`` came first.

        One task polls for all waiting requests, so that a server that starts gets one check at a time.
        """
        if not self.requests_wait:
            return False
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(max(0.0, end - self._clock())):
                return await asyncio.shield(self._watch)
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Stop polling."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    async def _poll(self) -> bool:
        while self.requests_wait:
            # The pause comes first: a server that is stopping still reports ready for a moment.
            await asyncio.sleep(_POLL_S)
            if await self._ready():
                return True
        # The server responded to another request meanwhile, perhaps its last one: a new outage may follow.
        return self._wait_until is None


class Availability:
    """What is known of one server from its operator and from the outcomes of calls to it.

    ``wait_s``: seconds of an absence for which requests wait. Times ``end`` are on ``time.monotonic``.
    """

    def __init__(self, server: Server, wait_s: float) -> None:
        self._server = server
        self._breaker = Breaker()
        self._outage = Outage(wait_s, server.ready)

    async def wait_until_available(self, end: float) -> None:
        """Return when a request may be sent; raise ``ApiError`` 503 while the server is known to be down."""
        while not self._server.accepts_requests:
            if not await self.wait_until_back(end):
                raise unavailable("The model server is being replaced. Try again shortly.")
        if not await self._outage.wait_until_ready(end):
            self._breaker.check()

    async def should_retry(self, error: grpc.aio.AioRpcError, attempt: int, end: float) -> bool:
        """Return whether to repeat a failed call: after its first attempt, or when an outage has ended."""
        unreachable = rpc_errors.is_unreachable(error)
        if not unreachable and not rpc_errors.is_without_model(error):
            return False
        if await self._outage.wait_until_ready(end):
            return True
        retry = unreachable and attempt == 1
        if retry:
            # Between two attempts to connect, the channel fails every call at once.
            await asyncio.sleep(_RETRY_AFTER_S)
            await self._server.wait_for_connection()
        return retry

    async def wait_until_back(self, end: float) -> bool:
        """Wait for a server without a model, which is stopping or starting; ``False``: it did not return."""
        self._outage.begin()
        return await self._outage.wait_until_ready(end)

    def record_failure(self, error: grpc.aio.AioRpcError) -> bool:
        """Record a failed call; return whether the server, or its model, was absent."""
        unreachable = rpc_errors.is_unreachable(error)
        if unreachable:
            self._breaker.record_failure()
        absent = unreachable or rpc_errors.is_without_model(error)
        if absent:
            self._outage.begin()
        return absent

    def record_reachable(self) -> None:
        """Record that the server responded to something other than a request, such as a readiness check."""
        self._breaker.record_success()

    def record_success(self) -> None:
        """Record that the server worked on a request, which ends an outage."""
        self._breaker.record_success()
        self._outage.end()

    async def close(self) -> None:
        """Stop what runs beside the requests."""
        await self._outage.close()

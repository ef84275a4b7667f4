"""Who may use the engine now, who waits, and who is refused at once.

429 means the caller's own limit, 503 that the server is full; both name the seconds after which to try again.
Admission comes before tokenising (vllm#58192 did it the other way round and was overrun by work it then
refused).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway import errors
from gateway.admission.fair_queue import FairQueue
from gateway.admission.rate_limits import LocalLimiter, RateLimiter
from gateway.admission.slots import Slots
from gateway.caller import Caller
from gateway.edge_settings import EdgeSettings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import Usage

_BUSY = "All {slots} places are taken and the queue is full. Try again shortly."
_DISPLACED = "The server is full and your other requests hold most of its queue. Try again shortly."
_WAITED = "No place came free within {seconds:g} s. Try again shortly."
_PARALLEL = "This key already has {limit} requests under way. Wait for one to finish."
_PER_MINUTE = "This key's limit of {limit} {unit} per minute is used up. Try again in {wait:.0f} s."


class _Displaced(Exception):  # noqa: N818 -- a signal to one waiter, not an error of the program
    """Another caller with fewer requests took the place in the queue."""


class Admission:
    """Bounded places at the engine, a bounded fair queue before them, and each caller's own limits."""

    def __init__(
        self,
        settings: EdgeSettings,
        metrics: Metrics,
        limiter: RateLimiter | None = None,
        usage: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots, self._timeout_s = settings.max_in_flight, settings.queue_timeout_s
        self._places = Slots(settings.max_in_flight, clock)
        self._metrics, self._clock = metrics, clock
        self._limiter = limiter or LocalLimiter()
        self.usage = usage or Usage()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(settings.max_queue)
        self._held: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """How many requests hold a place now."""
        return self._places.taken

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return len(self._queue)

    @asynccontextmanager
    async def slot(self, caller: Caller, request_id: str = "") -> AsyncIterator[float]:  # noqa: ARG002 -- kept for tracing
        """Hold a place at the engine and give the seconds waited; leaving in any way frees it."""
        if caller.concurrency and self._held[caller.id] >= caller.concurrency:
            raise self._quota(caller, "concurrency", _PARALLEL.format(limit=caller.concurrency), 1.0)
        self._held[caller.id] += 1
        try:
            await self._check_rates(caller)
            started = self._clock()
            await self._enter(caller)
            try:
                self._count(caller, waited := self._clock() - started)
                yield waited
            finally:
                self._leave(caller.id)
        finally:
            self._held[caller.id] -= 1
            if not self._held[caller.id]:
                del self._held[caller.id]

    async def admit(self, caller: Caller) -> None:
        """Count a request that needs no place at the engine; raise 429 when the minute is used up."""
        await self._check_rates(caller)
        self._admitted(caller)

    async def charge(self, caller: Caller, tokens: int) -> None:
        """Count used tokens against the caller's minute; a debt delays its next request."""
        self.usage.add(caller.id, caller.user, tokens=tokens)
        if caller.counted_by_name:
            self._metrics.key(caller.id, tokens=tokens)
        if caller.tpm and tokens:
            await self._limiter.charge(f"{caller.id}:tpm", caller.tpm, tokens)

    async def _check_rates(self, caller: Caller) -> None:
        """Refuse a caller that has used up its minute; tokens first, because asking takes nothing."""
        if caller.tpm and (wait := await self._limiter.take(f"{caller.id}:tpm", caller.tpm, 0)):
            message = _PER_MINUTE.format(limit=caller.tpm, unit="tokens", wait=wait)
            raise self._quota(caller, "tokens", message, wait)
        if caller.rpm and (wait := await self._limiter.take(f"{caller.id}:rpm", caller.rpm)):
            message = _PER_MINUTE.format(limit=caller.rpm, unit="requests", wait=wait)
            raise self._quota(caller, "requests", message, wait)

    async def _enter(self, caller: Caller) -> None:
        """Take a free place, or wait in turn; a newcomer passes only who may have no more places for now."""
        self._places.seen(caller.id)
        if self._may_enter(caller.id):
            self._places.take(caller.id)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        placed, displaced = self._queue.push(caller.id, turn)
        if not placed:
            raise self._full(caller, "queue_full", _BUSY.format(slots=self._slots))
        if displaced is not None and not displaced.done():
            displaced.set_exception(_Displaced())
        self._grant()
        await self._wait(caller, turn)

    def _may_enter(self, caller: str) -> bool:
        free = not self._places.all_taken and not self._queue.waiting(caller)
        return free and caller != self._places.restrained()

    async def _wait(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        self._show()
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except _Displaced:
            raise self._full(caller, "displaced", _DISPLACED) from None
        except BaseException as error:
            self._give_up(caller, turn)
            if isinstance(error, TimeoutError):
                raise self._full(caller, "queue_timeout", _WAITED.format(seconds=self._timeout_s)) from None
            raise

    def _give_up(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        """Leave the queue; a place granted in the very moment of giving up is passed on, not lost."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._leave(caller.id)
        else:
            self._queue.discard(caller.id, turn)
            self._show()

    def _leave(self, caller: str) -> None:
        """Free a place, and hand it to the next in turn."""
        self._places.leave(caller)
        self._grant()
        self._show()

    def _grant(self) -> None:
        """Give the free places to those who wait and may have them."""
        while not self._places.all_taken and (first := self._queue.pop(but=self._places.restrained())):
            caller, turn = first
            if not turn.done():
                self._places.take(caller)
                turn.set_result(None)

    def _count(self, caller: Caller, waited: float) -> None:
        self._show()
        self._metrics.queued(waited)
        self._admitted(caller)

    def _admitted(self, caller: Caller) -> None:
        self.usage.add(caller.id, caller.user, requests=1)
        if caller.counted_by_name:
            self._metrics.key(caller.id, requests=1)

    def _show(self) -> None:
        self._metrics.load(self._places.taken, len(self._queue))

    def _quota(self, caller: Caller, reason: str, message: str, wait: float) -> errors.ApiError:
        self._refused(caller, reason)
        return errors.quota(message, wait)

    def _full(self, caller: Caller, reason: str, message: str) -> errors.ApiError:
        self._refused(caller, reason)
        return errors.unavailable(message, 1.0, "overloaded")

    def _refused(self, caller: Caller, reason: str) -> None:
        self._metrics.refused(reason)
        self.usage.add(caller.id, caller.user, refused=1)

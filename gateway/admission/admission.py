"""Which requests may use the engine now, which wait, and which are refused at once.

429 means the caller's own limit, 503 that the server is full; both have a Retry-After. What a request costs
before it has a slot, such as tokenising, is spent only once the caller's limits and the queue allow it
(vllm#58192 did it the other way round and was overrun by work that it then refused).
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway import errors
from gateway.admission.cursor import Cursor
from gateway.admission.fair_queue import FairQueue
from gateway.admission.rate_limits import LocalLimiter, RateLimiter
from gateway.admission.slots import Slots
from gateway.caller import Caller
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import Usage

_BUSY = "All {slots} concurrent-request slots are in use and the queue is full. Try again shortly."
_DISPLACED = "The server is full and your other requests hold most of its queue. Try again shortly."
_TIMED_OUT = "Timed out after {seconds:g} s waiting for a free slot. Try again shortly."
_REPLACED = "A newer request for the same place in the same file has replaced this one. Use its answer."
_CONCURRENCY = "This key already has {limit} requests under way. Wait for one to finish."
_PER_MINUTE = "This key's limit of {limit} {unit} per minute is used up. Try again in {wait:.0f} s."


class _Displaced(Exception):  # noqa: N818 -- a signal to one waiter, not an error of the program
    """A request of a caller with fewer requests took this one's position in the queue."""


class _Replaced(Exception):  # noqa: N818 -- as above
    """The caller typed on, and a newer request takes the place of this one."""


class Admission:
    """Admission control of one gateway: engine slots, a fair queue for them, and callers' own limits."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        limiter: RateLimiter | None = None,
        usage: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._slots = Slots(settings.max_in_flight, clock)
        self._metrics, self._clock = metrics, clock
        metrics.limits(settings.max_in_flight, settings.max_queue)
        self._limiter = limiter or LocalLimiter()
        self.usage = usage or Usage()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(settings.max_queue)
        self._held: Counter[str] = Counter()
        self._preparing: Counter[str] = Counter()
        # Where the waiting requests of each caller are typed; no larger than the queue.
        self._cursors: defaultdict[str, dict[asyncio.Future[None], Cursor]] = defaultdict(dict)

    @property
    def running(self) -> int:
        """How many requests hold a slot now."""
        return self._slots.in_use

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._queue)

    @asynccontextmanager
    async def slot(
        self,
        caller: Caller,
        request_id: str = "",  # noqa: ARG002 -- kept for tracing
        cursor: Cursor | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[float]:
        """Hold a slot at the engine and yield the seconds waited; leaving the context in any way frees it.

        A request with a ``cursor`` takes the place of the caller's earlier ones at it that still wait.
        ``prepare`` is called before the request takes a slot or waits for one, but not for a request that is
        refused anyway; what it raises passes through. Raises ``ApiError`` 429 for the caller's own limits,
        499 for a request that was replaced, 503 when the server is full.
        """
        if caller.concurrency and self._held[caller.id] >= caller.concurrency:
            raise self._over_limit(caller, "concurrency", _CONCURRENCY.format(limit=caller.concurrency), 1.0)
        self._held[caller.id] += 1
        try:
            await self._check_rates(caller)
            if prepare is not None:
                await self._prepared(caller, cursor, prepare)
            started = self._clock()
            await self._acquire(caller, cursor)
            try:
                self._update_gauges()
                self._record_admission(caller)
                yield self._clock() - started
            finally:
                self._release(caller.id)
        finally:
            self._held[caller.id] -= 1
            if not self._held[caller.id]:
                del self._held[caller.id]

    async def admit(self, caller: Caller) -> None:
        """Count a request that needs no slot at the engine; raise 429 when the minute's budget is used up."""
        await self._check_rates(caller)
        self._record_admission(caller)

    async def charge(self, caller: Caller, tokens: int) -> None:
        """Charge used tokens to the caller's minute; a debt delays its next request."""
        self.usage.add(caller.id, caller.user, tokens=tokens)
        self._metrics.user(caller.user, tokens=tokens)
        if caller.tpm and tokens:
            await self._limiter.charge(f"{caller.id}:tpm", caller.tpm, tokens)

    async def _check_rates(self, caller: Caller) -> None:
        """Refuse a caller that has used up its minute; tokens first, because that check uses nothing."""
        if caller.tpm and (wait := await self._limiter.take(f"{caller.id}:tpm", caller.tpm, 0)):
            message = _PER_MINUTE.format(limit=caller.tpm, unit="tokens", wait=wait)
            raise self._over_limit(caller, "tokens", message, wait)
        if caller.rpm and (wait := await self._limiter.take(f"{caller.id}:rpm", caller.rpm)):
            message = _PER_MINUTE.format(limit=caller.rpm, unit="requests", wait=wait)
            raise self._over_limit(caller, "requests", message, wait)

    async def _prepared(
        self, caller: Caller, cursor: Cursor | None, prepare: Callable[[], Awaitable[None]]
    ) -> None:
        """Prepare a request that is likely to be queued: of one caller several only while there is room."""
        room = self._settings.max_in_flight + self._settings.max_queue
        crowded = self._preparing.total() >= room and self._preparing[caller.id] > 0
        queued = (
            self._may_acquire(caller.id)
            or self._queue.accepts(caller.id)
            or self._replaceable(caller, cursor) is not None
        )
        if crowded or not queued:
            raise self._overloaded(caller, "queue_full", _BUSY.format(slots=self._settings.max_in_flight))
        self._preparing[caller.id] += 1
        try:
            await prepare()
        finally:
            self._preparing[caller.id] -= 1
            if not self._preparing[caller.id]:
                del self._preparing[caller.id]

    async def _acquire(self, caller: Caller, cursor: Cursor | None) -> None:
        """Take a free slot, or wait in turn; a newcomer passes only a caller that is capped for now."""
        self._slots.record_request(caller.id)
        if self._may_acquire(caller.id):
            self._slots.acquire(caller.id)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._replace(caller, cursor, turn):
            self._push(caller, turn)
        self._grant_slots()
        if cursor is not None:
            self._cursors[caller.id][turn] = cursor
        try:
            await self._wait(caller, turn)
        finally:
            self._forget(caller, turn)

    def _push(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        queued, displaced = self._queue.push(caller.id, turn)
        if not queued:
            raise self._overloaded(caller, "queue_full", _BUSY.format(slots=self._settings.max_in_flight))
        if displaced is not None and not displaced.done():
            displaced.set_exception(_Displaced())

    def _replace(self, caller: Caller, cursor: Cursor | None, turn: "asyncio.Future[None]") -> bool:
        """Take the place of the caller's request that waits at this cursor; return whether there is one."""
        older = self._replaceable(caller, cursor)
        if older is None:
            return False
        self._queue.replace(caller.id, older, turn)
        older.set_exception(_Replaced())
        return True

    def _replaceable(self, caller: Caller, cursor: Cursor | None) -> "asyncio.Future[None] | None":
        """Return the caller's request that waits at the same cursor.

        Each newer request replaces the one before it, so there is one at most.
        """
        waiting = self._cursors.get(caller.id, {}) if cursor is not None else {}
        for older, other in waiting.items():
            if cursor is not None and cursor.follows(other) and not older.done():
                return older
        return None

    def _forget(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        if turns := self._cursors.get(caller.id):
            turns.pop(turn, None)
            if not turns:
                del self._cursors[caller.id]

    def _may_acquire(self, caller: str) -> bool:
        free = not self._slots.all_in_use and not self._queue.count(caller)
        return free and caller != self._slots.capped_caller()

    async def _wait(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        self._update_gauges()
        timeout_s = self._settings.queue_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except _Displaced:
            raise self._overloaded(caller, "displaced", _DISPLACED) from None
        except _Replaced:
            self._record_refusal(caller, "replaced")
            raise errors.replaced(_REPLACED) from None
        except BaseException as error:
            self._stop_waiting(caller, turn)
            if isinstance(error, TimeoutError):
                message = _TIMED_OUT.format(seconds=timeout_s)
                raise self._overloaded(caller, "queue_timeout", message) from None
            raise

    def _stop_waiting(self, caller: Caller, turn: "asyncio.Future[None]") -> None:
        """Leave the queue; a slot that was granted in that very moment is passed on, not lost."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._release(caller.id)
        else:
            self._queue.discard(caller.id, turn)
            self._update_gauges()

    def _release(self, caller: str) -> None:
        """Free a slot, and give it to the next waiter."""
        self._slots.release(caller)
        self._grant_slots()
        self._update_gauges()

    def _grant_slots(self) -> None:
        """Give free slots to the waiters that may have them."""
        while not self._slots.all_in_use and (first := self._queue.pop(skip=self._slots.capped_caller())):
            caller, turn = first
            if not turn.done():
                self._slots.acquire(caller)
                turn.set_result(None)

    def _record_admission(self, caller: Caller) -> None:
        self.usage.add(caller.id, caller.user, requests=1)
        self._metrics.user(caller.user, requests=1)

    def _update_gauges(self) -> None:
        self._metrics.load(self._slots.in_use, len(self._queue))

    def _over_limit(self, caller: Caller, reason: str, message: str, wait: float) -> errors.ApiError:
        self._record_refusal(caller, reason)
        return errors.quota(message, wait)

    def _overloaded(self, caller: Caller, reason: str, message: str) -> errors.ApiError:
        self._record_refusal(caller, reason)
        return errors.unavailable(message, 1.0, "overloaded")

    def _record_refusal(self, caller: Caller, reason: str) -> None:
        self._metrics.refused(reason)
        self._metrics.user(caller.user, refused=1)
        self.usage.add(caller.id, caller.user, refused=1)

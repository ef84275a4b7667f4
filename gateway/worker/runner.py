"""Run one job: its items at the engine, its sign of life, and how it ends."""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from redis.exceptions import RedisError

from gateway.errors import ApiError
from gateway.jobs.models import Record
from gateway.jobs.store import Store
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics
from gateway.wiring import Components
from gateway.worker import items
from gateway.worker.metrics import WorkerMetrics

_log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_ATTEMPTS = 3
_TRIES = 3
_PAUSE_S = 1.0
_MOST_BEAT_S = 2.0
# A worker waits so long for a Redis that is away or full before it gives a job up for others to finish.
_PATIENCE_S = 240.0
_UNAVAILABLE, _SERVER_ERROR = 503, 500


class EngineAwayError(Exception):
    """The engine was not ready for longer than a lease; the job goes back to the queue."""


@dataclass(frozen=True, slots=True)
class End:
    """How a job leaves the worker: ``released`` to the queue, ``lost`` to another worker, or finished."""

    status: Literal["succeeded", "failed", "cancelled", "released", "lost"]
    error: dict[str, Any] | None = None


class Runner:
    """Runs one job at a time. ``stopping`` says that the worker is to end: its job then goes back."""

    def __init__(
        self,
        parts: Components,
        store: Store,
        metrics: WorkerMetrics,
        worker: str,
        stopping: Callable[[], bool],
    ) -> None:
        self._parts, self._store, self._metrics = parts, store, metrics
        self._worker, self._stopping = worker, stopping
        self._settings = parts.settings
        self._ignored = Metrics()

    async def run(self, job_id: str, delivery: int) -> bool:
        """Run the job of a message; ``False`` asks for the message to come again."""
        begun = time.monotonic()
        started = await self._patiently(lambda: self._store.start(job_id, delivery, self._worker))
        if started not in ("run", "cancelling"):
            _log.info("%s needs nothing from delivery %d: %s", job_id, delivery, started)
            return True
        end = End("cancelled") if started == "cancelling" else await self._watched(job_id, delivery)
        await self._leave(job_id, delivery, end)
        self._metrics.ended(end.status, time.monotonic() - begun)
        _log.info("%s %s after %.1f s", job_id, end.status, time.monotonic() - begun)
        return end.status != "released"

    async def _leave(self, job_id: str, delivery: int, end: End) -> None:
        """Write down how the job ended, however long Redis needs for it."""
        if end.status == "released":
            # Tried once: where it fails, the sign of life ends and a worker finds the job by that.
            with suppress(RedisError):
                await self._store.release(job_id, delivery)
        elif end.status != "lost":
            status, error = end.status, end.error
            await self._patiently(lambda: self._store.finish(job_id, delivery, status, error))

    async def _watched(self, job_id: str, delivery: int) -> End:
        """Work on the items until they are done, or the job is cancelled, too long, or no longer ours."""
        task = asyncio.create_task(self._work(job_id, delivery))
        until = time.monotonic() + self._settings.jobs_longest_s
        try:
            while not (await asyncio.wait({task}, timeout=self._beat_s))[0]:
                if (end := await self._interruption(job_id, delivery, until)) is not None:
                    return end
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def _beat_s(self) -> float:
        return min(self._settings.jobs_lease_s / 4, _MOST_BEAT_S)

    async def _interruption(self, job_id: str, delivery: int, until: float) -> End | None:
        """Give a sign of life, and return the reason to stop, if there is one."""
        if self._stopping():
            return End("released")
        if time.monotonic() > until:
            limit = self._settings.jobs_longest_s
            message = f"The job took longer than {limit} s. The results so far are kept; send the rest again."
            return End("failed", {"message": message, "code": "timeout"})
        try:
            status = await self._store.beat(job_id, delivery)
        except RedisError:
            return None  # what is done is written down as soon as Redis is back
        return {"cancelling": End("cancelled"), "lost": End("lost")}.get(status)

    async def _work(self, job_id: str, delivery: int) -> End:
        try:
            record = await self._patiently(lambda: self._store.get(job_id))
            request = await self._patiently(lambda: self._store.request(job_id))
            if record is None or request is None:
                return End("lost")
            if record.attempts > _MOST_ATTEMPTS:
                message = f"Each of {_MOST_ATTEMPTS} workers ended while it ran this job."
                return End("failed", {"message": message, "code": "worker_lost"})
            await self._items(record, delivery, request)
        except EngineAwayError:
            _log.warning("%s goes back to the queue: the engine is not ready", job_id)
            return End("released")
        except ApiError as error:
            return End("failed", error.envelope()["error"])
        except Exception as error:  # noqa: BLE001 -- one job's failure must not end the worker of all others
            _log.error("%s failed: %s", job_id, "; ".join(logs.describe(error)))
            return End(
                "failed", {"message": "The job failed. The worker's log says why.", "code": "internal"}
            )
        return End("succeeded")

    async def _items(self, record: Record, delivery: int, request: dict[str, Any]) -> None:
        """Work on what has no result yet, a few items at a time."""
        todo = items.items(self._parts, self._ignored, record.id, record.kind, request)
        have = await self._patiently(lambda: self._store.finished_items(record.id))
        pending = ((at, item) for at, item in enumerate(todo) if at not in have)
        until = time.monotonic() + self._settings.jobs_longest_s

        async def lane() -> None:
            for at, item in pending:
                result = {"index": at, **await self._result(item, until)}
                await self._patiently(lambda: self._store.add_result(record.id, delivery, at, result))  # noqa: B023 -- awaited here

        lanes = [asyncio.create_task(lane()) for _ in range(self._settings.jobs_parallel)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for each in lanes:
                each.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _result(self, item: items.Item, until: float) -> dict[str, Any]:
        """Return an item's result, or its error; an engine that is away or busy is waited for."""
        for attempt in itertools.count(1):
            try:
                result = await item(until - time.monotonic())
            except ApiError as error:
                passing = error.status == _UNAVAILABLE or attempt < _TRIES
                if error.status < _SERVER_ERROR or not passing:
                    self._metrics.item(None)
                    return error.envelope()
                await self._engine_back()
            else:
                self._metrics.item(result["usage"]["total_tokens"])
                return result
        raise AssertionError("the attempts have no end")  # pragma: no cover

    async def _engine_back(self) -> None:
        until = time.monotonic() + self._settings.jobs_lease_s
        await asyncio.sleep(_PAUSE_S)
        while not await self._parts.engine.ready():
            if time.monotonic() > until:
                raise EngineAwayError
            await asyncio.sleep(_PAUSE_S)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call to Redis until it works: it may be starting, or its disk may be full for a while."""
        until, pause = time.monotonic() + _PATIENCE_S, 0.1
        while True:
            try:
                return await call()
            except RedisError:
                if time.monotonic() > until or self._stopping():
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST_BEAT_S)

"""Running one job: its items on the engine, its heartbeat, and its outcome."""

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
from gateway.jobs.models import JobRecord
from gateway.jobs.store import JobStore
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics
from gateway.wiring import Components
from gateway.worker import items
from gateway.worker.metrics import WorkerMetrics

_log = logging.getLogger(__name__)
T = TypeVar("T")

_MAX_ATTEMPTS = 3
_MAX_ITEM_ATTEMPTS = 3
_PAUSE_S = 1.0
_MAX_HEARTBEAT_S = 2.0
# How long a worker waits for a Redis that is down or full before it leaves the job to other workers.
_REDIS_RETRY_S = 240.0
_UNAVAILABLE, _SERVER_ERROR = 503, 500


class EngineAwayError(Exception):
    """The engine was not ready for longer than a lease; the job returns to the queue."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job leaves the worker: ``released`` to the queue, ``lost`` to another worker, or finished."""

    status: Literal["succeeded", "failed", "cancelled", "released", "lost"]
    error: dict[str, Any] | None = None


class Runner:
    """Runs one job at a time. When ``stopping`` returns true, the job returns to the queue.

    ``worker`` is the name under which the job's record has this worker.
    """

    def __init__(
        self,
        components: Components,
        store: JobStore,
        metrics: WorkerMetrics,
        worker: str,
        stopping: Callable[[], bool],
    ) -> None:
        self._components, self._store, self._metrics = components, store, metrics
        self._worker, self._stopping = worker, stopping
        self._settings = components.settings
        self._completion_metrics = Metrics()  # required by the conversion of requests; not served

    async def run(self, job_id: str, delivery: int) -> bool:
        """Run the job of a message; ``False`` means that the message must be delivered again.

        Raises ``RedisError`` when Redis stays down for minutes.
        """
        begun = time.monotonic()
        start = await self._retrying(lambda: self._store.start(job_id, delivery, self._worker))
        if start not in ("run", "cancelling"):
            _log.info("%s needs no work from delivery %d: %s", job_id, delivery, start)
            return True
        outcome = Outcome("cancelled") if start == "cancelling" else await self._supervise(job_id, delivery)
        await self._record(job_id, delivery, outcome)
        self._metrics.ended(outcome.status, time.monotonic() - begun)
        _log.info("%s %s after %.1f s", job_id, outcome.status, time.monotonic() - begun)
        return outcome.status != "released"

    async def _record(self, job_id: str, delivery: int, outcome: Outcome) -> None:
        """Store the outcome, with retries."""
        if outcome.status == "released":
            # Tried once: where it fails, the heartbeat stops, and a worker finds the job by that.
            with suppress(RedisError):
                await self._store.release(job_id, delivery)
        elif outcome.status != "lost":
            status, error = outcome.status, outcome.error
            await self._retrying(lambda: self._store.finish(job_id, delivery, status, error))

    async def _supervise(self, job_id: str, delivery: int) -> Outcome:
        """Process the items until they are done, or the job is cancelled, too long, or another worker's."""
        task = asyncio.create_task(self._work(job_id, delivery))
        until = time.monotonic() + self._settings.jobs_max_runtime_s
        try:
            while not (await asyncio.wait({task}, timeout=self._heartbeat_s))[0]:
                if (outcome := await self._interruption(job_id, delivery, until)) is not None:
                    return outcome
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def _heartbeat_s(self) -> float:
        return min(self._settings.jobs_lease_s / 4, _MAX_HEARTBEAT_S)

    async def _interruption(self, job_id: str, delivery: int, until: float) -> Outcome | None:
        """Send a heartbeat, and return the outcome of a job that must stop now."""
        if self._stopping():
            return Outcome("released")
        if time.monotonic() > until:
            limit = self._settings.jobs_max_runtime_s
            message = f"The job took longer than {limit} s. Its results so far are kept; send the rest again."
            return Outcome("failed", {"message": message, "code": "timeout"})
        try:
            status = await self._store.heartbeat(job_id, delivery)
        except RedisError:
            return None  # results are stored as soon as Redis is back
        return {"cancelling": Outcome("cancelled"), "lost": Outcome("lost")}.get(status)

    async def _work(self, job_id: str, delivery: int) -> Outcome:
        try:
            record = await self._retrying(lambda: self._store.get(job_id))
            request = await self._retrying(lambda: self._store.request(job_id))
            if record is None or request is None:
                return Outcome("lost")
            if record.attempts > _MAX_ATTEMPTS:
                message = f"Each of {_MAX_ATTEMPTS} workers ended while it ran this job."
                return Outcome("failed", {"message": message, "code": "worker_lost"})
            await self._process_items(record, delivery, request)
        except EngineAwayError:
            _log.warning("%s returns to the queue: the engine is not ready", job_id)
            return Outcome("released")
        except ApiError as error:
            return Outcome("failed", error.envelope()["error"])
        except Exception as error:  # noqa: BLE001 -- one job's failure must not end the worker of all others
            _log.error("%s failed: %s", job_id, "; ".join(logs.describe(error)))
            return Outcome(
                "failed", {"message": "The job failed. The worker's log says why.", "code": "internal"}
            )
        return Outcome("succeeded")

    async def _process_items(self, record: JobRecord, delivery: int, request: dict[str, Any]) -> None:
        """Process the items without a result, ``jobs_concurrency`` at a time."""
        all_items = items.items(self._components, self._completion_metrics, record.id, record.kind, request)
        finished = await self._retrying(lambda: self._store.finished_items(record.id))
        pending = ((at, item) for at, item in enumerate(all_items) if at not in finished)
        until = time.monotonic() + self._settings.jobs_max_runtime_s

        async def process_pending() -> None:
            for at, item in pending:
                result = {"index": at, **await self._result(item, until)}
                await self._retrying(lambda: self._store.add_result(record.id, delivery, at, result))  # noqa: B023 -- awaited here

        tasks = [asyncio.create_task(process_pending()) for _ in range(self._settings.jobs_concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _result(self, item: items.Item, until: float) -> dict[str, Any]:
        """Return an item's result or its error; waits for an engine that is down or busy.

        Raises ``EngineAwayError`` when the engine stays down for longer than a lease.
        """
        for attempt in itertools.count(1):
            try:
                result = await item(until - time.monotonic())
            except ApiError as error:
                retry = error.status == _UNAVAILABLE or attempt < _MAX_ITEM_ATTEMPTS
                if error.status < _SERVER_ERROR or not retry:
                    self._metrics.item(None)
                    return error.envelope()
                await self._wait_for_engine()
            else:
                self._metrics.item(result["usage"]["total_tokens"])
                return result
        raise AssertionError("the attempts have no end")  # pragma: no cover

    async def _wait_for_engine(self) -> None:
        until = time.monotonic() + self._settings.jobs_lease_s
        await asyncio.sleep(_PAUSE_S)
        while not await self._components.engine.ready():
            if time.monotonic() > until:
                raise EngineAwayError
            await asyncio.sleep(_PAUSE_S)

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call Redis until it works: Redis may be starting, or its disk may be full for a while."""
        until, pause = time.monotonic() + _REDIS_RETRY_S, 0.1
        while True:
            try:
                return await call()
            except RedisError:
                if time.monotonic() > until or self._stopping():
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_HEARTBEAT_S)

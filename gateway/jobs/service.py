"""The operations on jobs that callers may do."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from prometheus_client import Counter, Gauge
from redis.exceptions import ResponseError

from gateway.errors import ApiError, quota, unavailable
from gateway.jobs.broker import UNSENDABLE, Publisher
from gateway.jobs.models import JobRecord, Kind, is_id, new_id
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
# Seconds after which clients should try again.
_RETRY_REDIS_S = 5.0
_RETRY_FULL_S = 30.0
_RETRY_QUOTA_S = 60.0
_UPDATE_EVERY_S = 10.0


class JobService:
    """Accepts jobs and returns them to their owners.

    Every operation raises ``ApiError`` and nothing else: 404 for a job that does not exist or is another
    owner's, 429 and 503 as their messages say.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        registry = metrics.registry
        self._store = JobStore(settings)
        self._publisher = Publisher(settings)
        self._accepted = Counter("assist_jobs_taken", "Jobs accepted", ["type"], registry=registry)
        self._refused = Counter("assist_jobs_refused", "Jobs refused", ["reason"], registry=registry)
        self._open = Gauge("assist_jobs_open", "Jobs that wait or run, of all gateways", registry=registry)
        self._up = Gauge("assist_jobs_redis_up", "1 while the queue's Redis responds", registry=registry)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Update the queue's gauges while the gateway runs, and close all connections at the end."""
        updates = asyncio.create_task(self._update_gauges())
        try:
            yield
        finally:
            updates.cancel()
            await asyncio.gather(updates, return_exceptions=True)
            self._publisher.close()
            await self._store.close()

    async def _update_gauges(self) -> None:
        while True:
            try:
                self._open.set(await self._store.unfinished())
                self._up.set(1)
                with suppress(ResponseError):  # a Redis of the operator's may forbid INFO
                    self._metrics.redis_memory("queue", *await self._store.memory())
            except UNSENDABLE:
                self._up.set(0)
            await asyncio.sleep(_UPDATE_EVERY_S)

    async def submit(self, owner: str, kind: Kind, items: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Accept a job; when this returns, its record is in Redis and its message on the queue.

        Raises ``ApiError`` 429 when the owner has too many jobs, 503 when the queue is full or down.
        """
        record = JobRecord(
            id=new_id(), owner=owner, kind=kind, status="queued", items=items, created=time.time()
        )
        async with self._translating_errors():
            created = await self._store.create(record, request)
            if created != "ok":
                raise self._limit_error(created)
            await self._publisher.publish(record.id, record.delivery)
            if not await self._store.accept(record.id):
                raise TimeoutError("the record expired before it was accepted")
        self._accepted.labels(kind).inc()
        return record.document(0, self._settings.jobs_result_ttl_s)

    async def list(self, owner: str) -> dict[str, Any]:
        """Return an owner's jobs, newest first, without their results."""
        async with self._translating_errors():
            records = await self._store.list_of(owner)
        ttl_s = self._settings.jobs_result_ttl_s
        return {"object": "list", "data": [record.document(done, ttl_s) for record, done in records]}

    async def get(self, owner: str, job_id: str) -> dict[str, Any]:
        """Return a job with the results of its finished items, in the items' order."""
        async with self._translating_errors():
            record = await self._owned(owner, job_id)
            results = await self._store.results(job_id)
        document = record.document(len(results), self._settings.jobs_result_ttl_s)
        return document | {"results": [orjson.Fragment(results[at]) for at in sorted(results)]}

    async def cancel(self, owner: str, job_id: str) -> dict[str, Any]:
        """Cancel a job that is not finished; a running one stops within seconds. Raises 404 or 503."""
        async with self._translating_errors():
            if not is_id(job_id) or await self._store.cancel(job_id, owner) is None:
                raise _unknown(job_id)
            record = await self._owned(owner, job_id)
            done = await self._store.count_finished(job_id)
        return record.document(done, self._settings.jobs_result_ttl_s)

    async def delete(self, owner: str, job_id: str) -> dict[str, Any]:
        """Cancel a job, and delete it and its results now. Raises 404 or 503."""
        async with self._translating_errors():
            if not is_id(job_id) or not await self._store.delete(job_id, owner):
                raise _unknown(job_id)
        return {"id": job_id, "object": "job", "deleted": True}

    async def _owned(self, owner: str, job_id: str) -> JobRecord:
        record = await self._store.get(job_id) if is_id(job_id) else None
        if record is None or record.owner != owner:
            raise _unknown(job_id)
        return record

    @asynccontextmanager
    async def _translating_errors(self) -> AsyncIterator[None]:
        """Raise 503 for Redis's failures: down, slow, or its disk or memory full."""
        try:
            yield
        except UNSENDABLE as error:
            self._refused.labels("redis").inc()
            _log.warning("The jobs' Redis does not take commands: %s", _cause_of(error))
            raise unavailable(
                "The queue does not respond or cannot store anything now. Accepted jobs are kept. "
                "Try again shortly.",
                _RETRY_REDIS_S,
                "queue_unavailable",
            ) from None

    def _limit_error(self, reason: str) -> ApiError:
        self._refused.labels(reason).inc()
        if reason == "full":
            return unavailable("The queue is full. Try again later.", _RETRY_FULL_S, "overloaded")
        return quota(
            f"This key has {self._settings.jobs_max_per_key} jobs, which is its limit. Delete finished jobs "
            "with DELETE /v1/jobs/{id}, or wait until they expire.",
            _RETRY_QUOTA_S,
        )


def _unknown(job_id: str) -> ApiError:
    """Return the same error for jobs that never existed, have expired, or belong to another owner."""
    message = f"Job {job_id[:64]!r} does not exist, has expired, or belongs to another key."
    return ApiError(404, message, code="not_found")


def _cause_of(error: Exception) -> str:
    """Return a failure's type and Redis's code, such as MISCONF, without the rest of its text."""
    cause = error.__cause__ or error
    code = ""
    with suppress(IndexError):
        code = str(cause).split()[0]
    return f"{type(cause).__name__} {code}" if code.isupper() else type(cause).__name__

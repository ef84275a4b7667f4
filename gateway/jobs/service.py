"""What callers can do with jobs. Every method raises ``ApiError`` and nothing else."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.errors import ApiError, quota, unavailable
from gateway.jobs.broker import UNSENDABLE, Publisher
from gateway.jobs.models import Kind, Record, is_id, new_id
from gateway.jobs.settings import JobsSettings
from gateway.jobs.store import Store

_log = logging.getLogger(__name__)
_AWAY_S = 5.0
_FULL_S = 30.0
_QUOTA_S = 60.0
_LOOK_S = 10.0


class JobService:
    """Takes jobs in and tells their owners of them; ``registry`` gets its counters."""

    def __init__(self, settings: JobsSettings, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._store = Store(settings)
        self._publisher = Publisher(settings)
        self._taken = Counter("assist_jobs_taken", "Jobs accepted", ["type"], registry=registry)
        self._refused = Counter("assist_jobs_refused", "Jobs refused", ["reason"], registry=registry)
        self._open = Gauge("assist_jobs_open", "Jobs that wait or run, of all gateways", registry=registry)
        self._up = Gauge("assist_jobs_redis_up", "1 while the queue's Redis answers", registry=registry)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after the queue's size while the gateway runs, and close what is open at the end."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self._publisher.close()
            await self._store.close()

    async def _watch(self) -> None:
        while True:
            try:
                self._open.set(await self._store.unfinished())
                self._up.set(1)
            except UNSENDABLE:
                self._up.set(0)
            await asyncio.sleep(_LOOK_S)

    async def submit(self, owner: str, kind: Kind, items: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take a job in; it is safe in Redis, and its message on the queue, when this returns."""
        record = Record(
            id=new_id(), owner=owner, kind=kind, status="queued", items=items, created=time.time()
        )
        async with self._reaching():
            created = await self._store.create(record, request)
            if created != "ok":
                raise self._no_room(created)
            await self._publisher.publish(record.id, record.delivery)
            if not await self._store.accept(record.id):
                raise TimeoutError("the record expired before it was accepted")
        self._taken.labels(kind).inc()
        return record.document(0, self._settings.jobs_result_s)

    async def list(self, owner: str) -> dict[str, Any]:
        """Return an owner's jobs, newest first, without their results."""
        async with self._reaching():
            found = await self._store.of_owner(owner)
        kept = self._settings.jobs_result_s
        return {"object": "list", "data": [record.document(done, kept) for record, done in found]}

    async def get(self, owner: str, job_id: str) -> dict[str, Any]:
        """Return a job with the results of its finished items, in the items' order."""
        async with self._reaching():
            record = await self._owned(owner, job_id)
            results = await self._store.results(job_id)
        document = record.document(len(results), self._settings.jobs_result_s)
        return document | {"results": [orjson.Fragment(results[at]) for at in sorted(results)]}

    async def cancel(self, owner: str, job_id: str) -> dict[str, Any]:
        """Cancel a job that is not finished; a running one stops within seconds."""
        async with self._reaching():
            if not is_id(job_id) or await self._store.cancel(job_id, owner) is None:
                raise _unknown(job_id)
            record = await self._owned(owner, job_id)
            done = await self._store.done(job_id)
        return record.document(done, self._settings.jobs_result_s)

    async def forget(self, owner: str, job_id: str) -> dict[str, Any]:
        """Cancel a job, and remove it and its results now."""
        async with self._reaching():
            if not is_id(job_id) or not await self._store.forget(job_id, owner):
                raise _unknown(job_id)
        return {"id": job_id, "object": "job", "deleted": True}

    async def _owned(self, owner: str, job_id: str) -> Record:
        record = await self._store.get(job_id) if is_id(job_id) else None
        if record is None or record.owner != owner:
            raise _unknown(job_id)
        return record

    @asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Turn Redis's failures into a 503: it is away, its disk or its memory is full, or it is slow."""
        try:
            yield
        except UNSENDABLE as error:
            self._refused.labels("redis").inc()
            _log.warning("The jobs' Redis does not take commands: %s", _why(error))
            raise unavailable(
                "The queue does not answer or cannot store anything now. What was accepted is kept. "
                "Try again shortly.",
                _AWAY_S,
                "queue_unavailable",
            ) from None

    def _no_room(self, reason: str) -> ApiError:
        self._refused.labels(reason).inc()
        if reason == "full":
            return unavailable("The queue is full. Try again later.", _FULL_S, "overloaded")
        return quota(
            f"This key has {self._settings.jobs_max_per_key} jobs, the most it may have. Remove finished "
            "ones with DELETE /v1/jobs/{id}, or wait until they expire.",
            _QUOTA_S,
        )


def _unknown(job_id: str) -> ApiError:
    """Return one answer for jobs that never were, have expired, or are somebody else's."""
    return ApiError(404, f"There is no job {job_id[:64]!r} of this key, or it has expired.", code="not_found")


def _why(error: Exception) -> str:
    """Return what kind of failure it was; of Redis's text only the code, such as MISCONF, says more."""
    cause = error.__cause__ or error
    code = ""
    with suppress(IndexError):
        code = str(cause).split()[0]
    return f"{type(cause).__name__} {code}" if code.isupper() else type(cause).__name__

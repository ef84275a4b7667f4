"""The jobs' records in Redis."""

import time
from collections.abc import Mapping
from typing import Any, Literal, cast

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.jobs import lua_scripts
from gateway.jobs.models import FIELDS, JobRecord, Status, fields
from gateway.redis_client import memory_of
from gateway.settings import Settings

# A record whose message could not be sent expires after this; its client has got an error.
_ACCEPT_WITHIN_S = 60
_CONNECTIONS = 16

Created = Literal["ok", "quota", "full"]
Start = Literal["run", "cancelling", "gone", "stale", "elsewhere", "finished"]


class JobStore:
    """Jobs by id and by owner. One object belongs to one event loop.

    Every method raises ``RedisError`` when Redis is down, full or cannot write.
    """

    def __init__(self, settings: Settings, timeout_s: float = 2.0) -> None:
        pool = BlockingConnectionPool.from_url(
            settings.jobs_url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=30,
        )
        self._redis: Any = Redis(connection_pool=pool)  # its types leave open whether replies are decoded
        self._settings = settings
        self._open = f"{settings.jobs_prefix}open"

    def _record(self, job_id: str) -> str:
        return f"{self._settings.jobs_prefix}job:{job_id}"

    def _results(self, job_id: str) -> str:
        return f"{self._settings.jobs_prefix}results:{job_id}"

    def _owned(self, owner: str) -> str:
        return f"{self._settings.jobs_prefix}of:{owner}"

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _run(self, script: str, keys: list[str], *arguments: str | float | bytes) -> Any:  # noqa: ANN401 -- Redis's reply
        reply = await self._redis.eval(script, len(keys), *keys, *arguments)
        return reply.decode() if isinstance(reply, bytes) else reply

    async def create(self, record: JobRecord, request: Mapping[str, Any]) -> Created:
        """Store a new record for a minute, unless its owner or the queue is at its limit; see ``accept``."""
        settings = self._settings
        keys = [self._record(record.id), self._owned(record.owner), self._open]
        created = await self._run(
            lua_scripts.CREATE, keys, self._record(""), record.id, record.created, settings.jobs_max_per_key,
            settings.jobs_max_waiting, _ACCEPT_WITHIN_S, *fields(record, request),
        )  # fmt: skip
        return cast("Created", created)

    async def accept(self, job_id: str) -> bool:
        """Keep the record until the job is finished; return whether it still exists."""
        return bool(await self._run(lua_scripts.ACCEPT, [self._record(job_id)]))

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a record by its id."""
        return JobRecord.of(job_id, await self._redis.hmget(self._record(job_id), FIELDS))

    async def list_of(self, owner: str) -> list[tuple[JobRecord, int]]:
        """Return an owner's records, newest first, each with the number of finished items."""
        ids = [job_id.decode() for job_id in await self._redis.zrange(self._owned(owner), 0, -1, desc=True)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(self._record(job_id), FIELDS).hlen(self._results(job_id))
            replies = await pipe.execute()
        records = (JobRecord.of(job_id, values) for job_id, values in zip(ids, replies[::2], strict=True))
        return [(record, done) for record, done in zip(records, replies[1::2], strict=True) if record]

    async def request(self, job_id: str) -> dict[str, Any] | None:
        """Return the job's request; ``None`` once it is finished or deleted."""
        text = await self._redis.hget(self._record(job_id), "request")
        return None if text is None else cast("dict[str, Any]", orjson.loads(text))

    async def results(self, job_id: str) -> dict[int, bytes]:
        """Return the finished items' results as JSON, by the items' positions."""
        return {int(at): text for at, text in (await self._redis.hgetall(self._results(job_id))).items()}

    async def finished_items(self, job_id: str) -> set[int]:
        """Return the positions of the finished items."""
        return {int(at) for at in await self._redis.hkeys(self._results(job_id))}

    async def count_finished(self, job_id: str) -> int:
        """Return how many items are finished."""
        return int(await self._redis.hlen(self._results(job_id)))

    async def add_result(self, job_id: str, delivery: int, position: int, result: object) -> None:
        """Store one item's result, if the job still exists and this delivery is its latest."""
        keys = [self._record(job_id), self._results(job_id)]
        await self._run(lua_scripts.ADD_RESULT, keys, delivery, position, orjson.dumps(result))

    async def start(self, job_id: str, delivery: int, worker: str) -> Start:
        """Start a job for a message, unless another worker has it, or it needs no more work."""
        keys, lease = [self._record(job_id), self._open], self._settings.jobs_lease_s
        return cast(
            "Start", await self._run(lua_scripts.START, keys, job_id, delivery, time.time(), lease, worker)
        )

    async def heartbeat(self, job_id: str, delivery: int) -> Status | Literal["lost"]:
        """Record a heartbeat; return the job's status, or ``lost`` when another worker has it now."""
        status = await self._run(
            lua_scripts.HEARTBEAT, [self._record(job_id), self._open], job_id, delivery, time.time()
        )
        return cast("Status | Literal['lost']", status)

    async def finish(
        self, job_id: str, delivery: int, status: Status, error: Mapping[str, Any] | None
    ) -> bool:
        """Finish a job: its request is deleted now, its results expire after ``jobs_result_ttl_s``."""
        keys = [self._record(job_id), self._open, self._results(job_id)]
        text = orjson.dumps(error) if error else b""
        ttl_s = self._settings.jobs_result_ttl_s
        return bool(
            await self._run(lua_scripts.FINISH, keys, job_id, delivery, status, time.time(), ttl_s, text)
        )

    async def release(self, job_id: str, delivery: int) -> bool:
        """Return a job to the queue, with the results that it has."""
        keys = [self._record(job_id), self._open]
        return bool(await self._run(lua_scripts.RELEASE, keys, job_id, delivery, time.time()))

    async def cancel(self, job_id: str, owner: str) -> Status | None:
        """Cancel a job of this owner; return its status, ``None`` where the owner has no such job."""
        keys = [self._record(job_id), self._open, self._results(job_id)]
        ttl_s = self._settings.jobs_result_ttl_s
        return await self._run(lua_scripts.CANCEL, keys, job_id, owner, time.time(), ttl_s) or None

    async def delete(self, job_id: str, owner: str) -> bool:
        """Delete a job of this owner and its results; return whether the owner had it."""
        keys = [self._record(job_id), self._results(job_id), self._owned(owner), self._open]
        return bool(await self._run(lua_scripts.DELETE, keys, job_id, owner))

    async def unfinished(self) -> int:
        """Return how many jobs of all keys wait or run."""
        return int(await self._redis.zcard(self._open))

    async def memory(self) -> tuple[int, int]:
        """Return the bytes that the queue's Redis uses and may use; 0 is no limit."""
        return memory_of(await self._redis.info("memory"))

    async def waiting(self) -> int:
        """Return how many messages are on the queue."""
        return int(await self._redis.llen(f"{self._settings.jobs_prefix}{self._settings.jobs_queue}"))

    async def claim_lost(self) -> list[tuple[str, int]]:
        """Claim the jobs that have no worker and no message on the queue.

        Returns their ids and the numbers of their next deliveries. Redis's transport takes a message off the
        queue before it records which worker has it, so a worker that dies in between loses the message.
        """
        now, lease = time.time(), self._settings.jobs_lease_s
        silent = await self._redis.zrangebyscore(self._open, "-inf", now - lease, withscores=True)
        idle = not await self.waiting()
        claimed = []
        for member, _ in silent:
            job_id = member.decode()
            record = await self.get(job_id)
            if record is None:
                await self._redis.zrem(self._open, job_id)
            elif (record.status != "queued" or idle) and await self._claim(job_id, lease, now):
                claimed.append((job_id, record.delivery + 1))
        return claimed

    async def _claim(self, job_id: str, lease: float, now: float) -> bool:
        return bool(await self._run(lua_scripts.CLAIM, [self._open], job_id, now - lease, now))

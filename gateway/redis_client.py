"""A Redis client with short time-outs, no retries, and a pause after a failure.

redis-py waits 5 s by default, longer than a completion may take. Here every step of a command takes
``timeout_s`` at most, and for ``pause_s`` after a failure commands fail at once: callers then fall back to
in-process state.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_log = logging.getLogger(__name__)
_STEPS = 3  # connect, handshake, command


class RedisClient:
    """Runs commands on one Redis; every failure is a ``RedisError``, after 3 ``timeout_s`` at most.

    ``on_error`` is called for each failure.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 0.1,
        pause_s: float = 1.0,
        on_error: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s, self._pause_s, self._on_error, self._clock = timeout_s, pause_s, on_error, clock
        self._paused_until = 0.0
        self._redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=256,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )

    async def call(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:  # noqa: ANN401 -- Redis's reply
        """Run one command; raises ``RedisError`` for a failure, and at once during the pause after one."""
        if self._clock() < self._paused_until:
            raise RedisConnectionError("Redis failed a moment ago; the pause before the next try is not over")
        try:
            # Longer than the socket limits, because redis-py leaks the connection of a cancelled command.
            async with asyncio.timeout(_STEPS * self._timeout_s):
                return await command(self._redis)
        except TimeoutError:
            self._record_failure("no response in time")
            raise RedisTimeoutError("no response in time") from None
        except RedisError as error:
            self._record_failure(type(error).__name__)
            raise
        except OSError as error:
            self._record_failure(type(error).__name__)
            raise RedisConnectionError(type(error).__name__) from None

    def _record_failure(self, cause: str) -> None:
        self._on_error()
        self._paused_until = self._clock() + self._pause_s
        _log.warning("Redis cannot be used (%s); falling back to in-process state", cause)

    async def memory(self) -> tuple[int, int] | None:
        """Return the bytes that Redis uses and may use (0: no limit), or None where INFO is forbidden.

        Raises as ``call``.
        """

        async def info(redis: Redis) -> Mapping[str, Any] | None:
            try:
                return dict(await redis.info("memory"))
            except ResponseError:  # no failure of Redis: it must not pause the cache
                return None

        found = await self.call(info)
        return None if found is None else memory_of(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def memory_of(info: Mapping[str, Any]) -> tuple[int, int]:
    """Return used and allowed bytes from Redis's ``INFO memory``."""
    return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))

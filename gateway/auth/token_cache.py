"""A cache of tokens that the authentication provider has allowed: in this process, or in Redis for replicas.

Only allowed tokens are stored. A cache that fails is a miss, so a broken Redis costs time and never lets
anybody in; GitLab's gateway of 2022 cached denials too and took every hit for an approval.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from redis.exceptions import RedisError

from gateway.redis_client import RedisClient

_PREFIX = "assist:auth:"


class AllowCache(Protocol):
    """Stores the salted keys of allowed tokens; no method raises."""

    async def allowed(self, key: str) -> bool:
        """Return whether ``key`` was allowed within its time to live."""
        ...

    async def allow(self, key: str) -> None:
        """Store that ``key`` is allowed, from now for the time to live."""
        ...


def salt_or_random(configured: str | None) -> bytes:
    """Return the deployment's salt, or a random one, with which replicas share nothing."""
    return configured.encode() if configured else secrets.token_bytes(32)


def salted_key(salt: bytes, *parts: str) -> str:
    """Return a key from which the token cannot be read, or guessed without the salt."""
    message = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.new(salt, message, hashlib.sha256).hexdigest()


class LocalCache:
    """Bounded least-recently-used map with one time to live, in monotonic seconds."""

    def __init__(self, ttl_s: float, size: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._size, self._clock = ttl_s, size, clock
        self._expiry: OrderedDict[str, float] = OrderedDict()

    async def allowed(self, key: str) -> bool:
        """Return whether ``key`` was allowed less than the time to live ago."""
        expiry = self._expiry.get(key)
        if expiry is None:
            return False
        if expiry <= self._clock():
            del self._expiry[key]
            return False
        self._expiry.move_to_end(key)
        return True

    async def allow(self, key: str) -> None:
        """Store ``key``, and drop the least recently used one when full."""
        if self._ttl_s <= 0:
            return
        self._expiry[key] = self._clock() + self._ttl_s
        self._expiry.move_to_end(key)
        if len(self._expiry) > self._size:
            self._expiry.popitem(last=False)


class RedisCache:
    """Shares allowed tokens between replicas; each also keeps its own for when Redis is down.

    A value is a MAC over its key, so that write access to Redis is not enough to let somebody in.
    """

    def __init__(self, redis: RedisClient, local: LocalCache, salt: bytes, ttl_s: float) -> None:
        self._redis, self._local, self._salt, self._ttl_s = redis, local, salt, ttl_s

    async def allowed(self, key: str) -> bool:
        """Look in this process's own cache first, then in Redis; a Redis that fails is a miss."""
        if await self._local.allowed(key):
            return True
        try:
            stored = await self._redis.call(lambda redis: redis.get(_PREFIX + key))
        except RedisError:
            return False
        return isinstance(stored, bytes) and hmac.compare_digest(stored, self._proof(key))

    async def allow(self, key: str) -> None:
        """Store in this process and in Redis; a failed write to Redis only keeps replicas from sharing it."""
        await self._local.allow(key)
        ttl_ms = int(self._ttl_s * 1000)
        if ttl_ms <= 0:
            return
        try:
            await self._redis.call(lambda redis: redis.set(_PREFIX + key, self._proof(key), px=ttl_ms))
        except RedisError:
            return

    def _proof(self, key: str) -> bytes:
        return salted_key(self._salt, "allowed", key).encode()

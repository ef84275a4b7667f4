"""Where positive answers of an authentication provider are remembered: in this process, or in Redis for all.

Only "yes" is ever stored. A cache that can't answer is a miss, so a broken Redis costs time and never opens a
door; GitLab's 2022 gateway cached denials and took every hit for a yes.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from redis.exceptions import RedisError

from gateway.redis_client import RedisLink

_PREFIX = "assist:auth:"


class AllowCache(Protocol):
    """Remembers that a key was allowed."""

    async def allowed(self, key: str) -> bool:
        """Say whether ``key`` was allowed within its time to live."""
        ...

    async def allow(self, key: str) -> None:
        """Remember that ``key`` is allowed, from now for the time to live."""
        ...


def salt_or_random(configured: str | None) -> bytes:
    """Return the deployment's salt; without one, a random one, and replicas then share nothing."""
    return configured.encode() if configured else secrets.token_bytes(32)


def salted_key(salt: bytes, *parts: str) -> str:
    """Return a key from which no token can be read or guessed without the salt."""
    message = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.new(salt, message, hashlib.sha256).hexdigest()


class LocalCache:
    """Bounded least-recently-used map with one time to live in monotonic seconds."""

    def __init__(self, ttl_s: float, size: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._size, self._clock = ttl_s, size, clock
        self._expiry: OrderedDict[str, float] = OrderedDict()

    async def allowed(self, key: str) -> bool:
        """Say whether ``key`` was allowed less than the time to live ago."""
        expiry = self._expiry.get(key)
        if expiry is None:
            return False
        if expiry <= self._clock():
            del self._expiry[key]
            return False
        self._expiry.move_to_end(key)
        return True

    async def allow(self, key: str) -> None:
        """Remember ``key`` and forget the least recently used one when full."""
        if self._ttl_s <= 0:
            return
        self._expiry[key] = self._clock() + self._ttl_s
        self._expiry.move_to_end(key)
        if len(self._expiry) > self._size:
            self._expiry.popitem(last=False)


class RedisCache:
    """Shares answers between replicas; what this process saw itself stays known while Redis is away.

    A value is a MAC over its key, so that writing to Redis is not enough to let somebody in.
    """

    def __init__(self, link: RedisLink, local: LocalCache, salt: bytes, ttl_s: float) -> None:
        self._link, self._local, self._salt, self._ttl_s = link, local, salt, ttl_s

    async def allowed(self, key: str) -> bool:
        """Ask Redis; when it can't answer in time, ask this process's own memory."""
        if await self._local.allowed(key):
            return True
        try:
            stored = await self._link.call(lambda redis: redis.get(_PREFIX + key))
        except RedisError:
            return False
        return isinstance(stored, bytes) and hmac.compare_digest(stored, self._proof(key))

    async def allow(self, key: str) -> None:
        """Write to Redis and to this process; a failed write loses nothing but the sharing."""
        await self._local.allow(key)
        ttl_ms = int(self._ttl_s * 1000)
        if ttl_ms <= 0:
            return
        try:
            await self._link.call(lambda redis: redis.set(_PREFIX + key, self._proof(key), px=ttl_ms))
        except RedisError:
            return

    def _proof(self, key: str) -> bytes:
        return salted_key(self._salt, "allowed", key).encode()

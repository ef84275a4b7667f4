"""Requests and tokens per minute and caller, by the generic cell rate algorithm (GCRA, ITU-T I.371).

GCRA keeps one number per meter, the theoretical arrival time: a full minute's budget may be used at once and
then flows back evenly, so no caller is locked out for the rest of a fixed window. Clocks are monotonic, or
Redis's own where replicas share the limit, so a stepped wall clock on a gateway changes nothing.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from redis.exceptions import RedisError

from gateway.redis_client import RedisClient

_MINUTE = 60.0


class RateLimiter(Protocol):
    """Meters requests and tokens. A ``meter`` names a caller and what is limited; no method raises."""

    async def take(self, meter: str, per_minute: int, cost: int = 1) -> float:
        """Use ``cost`` and return 0, or use nothing and return the seconds until it would fit.

        ``cost`` 0 only asks whether anything is left.
        """
        ...

    async def charge(self, meter: str, per_minute: int, cost: int) -> None:
        """Use ``cost`` whether it fits or not, because it is spent already; later ``take`` calls wait."""
        ...


class LocalLimiter:
    """Meters of one process: at most ``size``, the least recently used dropped first."""

    def __init__(self, size: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._clock = size, clock
        self._arrival: OrderedDict[str, float] = OrderedDict()

    async def take(self, meter: str, per_minute: int, cost: int = 1) -> float:
        """Use ``cost`` of the meter's budget, or return how long to wait; ``cost`` 0 only asks."""
        now = self._clock()
        interval = _MINUTE / per_minute
        start = max(self._arrival.get(meter, now), now)
        wait = start + max(cost, 1) * interval - now - _MINUTE
        if wait > 1e-9:
            return wait
        if cost:
            self._store(meter, start + cost * interval)
        return 0.0

    async def charge(self, meter: str, per_minute: int, cost: int) -> None:
        """Add ``cost`` to the meter; the debt is capped at an hour, so no caller is locked out."""
        now = self._clock()
        start = max(self._arrival.get(meter, now), now)
        self._store(meter, min(start + cost * _MINUTE / per_minute, now + 60 * _MINUTE))

    def _store(self, meter: str, arrival: float) -> None:
        self._arrival[meter] = arrival
        self._arrival.move_to_end(meter)
        if len(self._arrival) > self._size:
            self._arrival.popitem(last=False)


_SCRIPT = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local interval, cost, force = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local start = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local wait = start + math.max(cost, 1) * interval - now - 60
if wait > 0.000001 and not force then return tostring(wait) end
if cost > 0 then
  local arrival = math.min(start + cost * interval, now + 3600)
  redis.call('SET', KEYS[1], string.format('%.6f', arrival), 'PX', math.ceil((arrival - now) * 1000) + 1000)
end
return '0'
"""


class RedisLimiter:
    """Meters that replicas share; while Redis is down each limits by itself (limit x replicas)."""

    def __init__(self, redis: RedisClient, local: LocalLimiter) -> None:
        self._redis, self._local = redis, local

    async def take(self, meter: str, per_minute: int, cost: int = 1) -> float:
        """Use the shared budget, or this process's own when Redis does not respond."""
        try:
            return await self._run(meter, per_minute, cost, force=False)
        except (RedisError, ValueError):
            return await self._local.take(meter, per_minute, cost)

    async def charge(self, meter: str, per_minute: int, cost: int) -> None:
        """Charge the shared budget, or this process's own when Redis does not respond."""
        try:
            await self._run(meter, per_minute, cost, force=True)
        except (RedisError, ValueError):
            await self._local.charge(meter, per_minute, cost)

    async def _run(self, meter: str, per_minute: int, cost: int, *, force: bool) -> float:
        """Run the script; one round trip, atomic, on Redis's clock. EVAL caches it by its text."""
        arguments = (repr(_MINUTE / per_minute), str(cost), "1" if force else "0")
        return float(
            await self._redis.call(lambda redis: redis.eval(_SCRIPT, 1, f"assist:rate:{meter}", *arguments))
        )

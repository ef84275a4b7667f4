"""Requests and tokens per minute: never more than allowed, never locked out."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rate_limits import LocalLimiter, RedisLimiter
from gateway.redis_client import RedisClient
from testing.servers.redis_server import RedisServer

STEPS = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 3)), min_size=1, max_size=60)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(per_minute=st.integers(1, 20), steps=STEPS)
def test_what_a_meter_gives_stays_within_a_burst_and_the_rate(
    per_minute: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    taken: list[tuple[float, int]] = []
    for pause, cost in steps:
        clock.now += pause
        if asyncio.run(limiter.take("a", per_minute, cost)) == 0:
            taken.append((clock.now, cost))
    for start, _ in taken:
        for end, _ in taken:
            used = sum(cost for at, cost in taken if start <= at <= end)
            assert used <= per_minute * (1 + max(0.0, end - start) / 60) + 1e-6


@given(per_minute=st.integers(1, 20), steps=STEPS)
def test_the_wait_that_is_named_is_enough(per_minute: int, steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    for pause, cost in steps:
        cost = min(cost, per_minute)
        clock.now += pause
        wait = asyncio.run(limiter.take("a", per_minute, cost))
        if wait:
            clock.now += wait + 1e-6
            assert asyncio.run(limiter.take("a", per_minute, cost)) == 0


async def test_callers_do_not_share_a_meter() -> None:
    limiter = LocalLimiter(clock=Clock())
    assert await limiter.take("a", 1) == 0
    assert await limiter.take("a", 1) > 0
    assert await limiter.take("b", 1) == 0


async def test_a_huge_charge_delays_an_hour_at_most() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    await limiter.charge("a", 1, 10**9)
    assert await limiter.take("a", 1, 0) <= 3600
    clock.now += 3600
    assert await limiter.take("a", 1, 0) == 0


async def test_the_table_of_meters_is_bounded() -> None:
    limiter = LocalLimiter(size=10)
    for number in range(1000):
        await limiter.take(f"caller {number}", 5)
    assert len(limiter._arrival) == 10


@pytest.mark.redis
async def test_replicas_share_one_budget(redis_server: RedisServer) -> None:
    links = [RedisClient(redis_server.url, 30.0) for _ in range(2)]
    replicas = [RedisLimiter(link, LocalLimiter()) for link in links]
    answers = [await replicas[turn % 2].take("a", 4) for turn in range(6)]
    assert [answer == 0 for answer in answers] == [True] * 4 + [False] * 2
    assert 0 < answers[-1] <= 30
    await replicas[0].charge("b", 10, 15)
    assert await replicas[1].take("b", 10, 0) > 0
    for link in links:
        await link.close()


@pytest.mark.redis
@pytest.mark.parametrize("fault", ["stop", "pause", "full", "readonly", "password", "moved_type"])
async def test_a_replica_limits_by_itself_while_redis_can_not(redis_server: RedisServer, fault: str) -> None:
    url = break_redis(redis_server, fault, "assist:rate:a")
    failures: list[int] = []
    link = RedisClient(url, 0.1, on_error=lambda: failures.append(1))
    limiter = RedisLimiter(link, LocalLimiter())
    async with asyncio.timeout(60):
        answers = [await limiter.take("a", 3) for _ in range(5)]
    assert [answer == 0 for answer in answers] == [True] * 3 + [False] * 2
    assert failures
    if fault == "pause":
        redis_server.resume()
    await link.close()


def break_redis(server: RedisServer, fault: str, key: str) -> str:
    """Make the server fail in one way; return the URL to use."""
    if fault == "stop":
        server.stop()
    elif fault == "pause":
        server.pause()
    elif fault == "full":
        server.admin().config_set("maxmemory", "1")
    elif fault == "readonly":
        server.admin().replicaof("127.0.0.1", "1")
    elif fault == "password":
        server.admin().config_set("requirepass", "right")
        return server.url.replace("redis://", "redis://:wrong@")
    else:
        server.admin().lpush(key, "not a number")
    return server.url

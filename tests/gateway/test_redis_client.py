"""The client's own failures, and what is none."""

import pytest

from gateway.redis_client import RedisClient
from testing.servers.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]
pytestmark = pytest.mark.redis


async def test_used_and_permitted_memory_are_in_bytes(redis_server: RedisServer):
    redis_server.admin().config_set("maxmemory", "64mb")
    client = RedisClient(redis_server.url, timeout_s=10)
    try:
        memory = await client.memory()
    finally:
        await client.close()
    assert memory is not None
    assert memory[0] > 100_000
    assert memory[1] == 64 * 2**20


async def test_a_redis_that_forbids_info_has_not_failed_and_is_not_paused(redis_server: RedisServer):
    redis_server.admin().execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all", "-info")
    failures: list[bool] = []
    client = RedisClient(redis_server.url, timeout_s=10, on_error=lambda: failures.append(True))
    try:
        assert await client.memory() is None
        await client.call(lambda redis: redis.set("key", "1"))
    finally:
        await client.close()
    assert failures == []

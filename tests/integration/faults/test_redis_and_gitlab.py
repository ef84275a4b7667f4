"""G7-G9: Redis and GitLab fail in every way; completions go on, and no door opens."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.doubles.fake_gitlab import FakeGitLab
from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import Gateway
from testing.servers.redis_server import RedisServer
from tests.gateway.admission.test_rate_limits import break_redis
from tests.integration.faults.conftest import StartGateway

GOOD, BAD = {"Authorization": "Bearer good-token"}, {"Authorization": "Bearer bad-token"}


@pytest.mark.redis
@pytest.mark.parametrize("fault", ["stop", "pause", "full", "readonly", "password"])
def test_completions_go_on_and_nobody_gets_in_while_redis_can_not(
    redis_server: RedisServer,
    gitlab: FakeGitLab,
    fake_triton: FakeTritonThread,
    start_gateway: StartGateway,
    fault: str,
) -> None:
    gitlab.denied = {"bad-token"}
    url = break_redis(redis_server, fault, "") if fault == "password" else redis_server.url
    gateway = start_gateway(
        fake_triton.address,
        auth="gitlab",
        gitlab_api_url=gitlab.url,
        redis_url=url,
        cache_salt="s",
        default_rpm=1000,
    )
    gateway.until_ready()
    assert gateway.complete(headers=GOOD).status_code == 200
    if fault != "password":
        break_redis(redis_server, fault, "")
    for _ in range(3):
        started = time.monotonic()
        assert gateway.complete(headers=GOOD).status_code == 200
        assert time.monotonic() - started < 2
        assert gateway.complete(headers=BAD).status_code == 401
    assert gateway.metric("assist_redis_failures_total") > 0
    if fault in {"stop", "pause"}:
        redis_server.resume() if fault == "pause" else redis_server.start()
        time.sleep(1.1)
        assert gateway.complete(headers={"Authorization": "Bearer third"}).status_code == 200
        assert redis_server.admin().keys("assist:*")


@pytest.mark.redis
def test_two_replicas_share_one_limit_until_redis_dies(
    redis_server: RedisServer, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    options = {"redis_url": redis_server.url, "default_rpm": 6}
    replicas = [start_gateway(fake_triton.address, **options) for _ in range(2)]
    statuses = [replicas[turn % 2].complete().status_code for turn in range(8)]
    assert (statuses.count(200), statuses.count(429)) == (6, 2)
    redis_server.stop()
    assert [replica.complete().status_code for replica in replicas] == [200, 200]


@pytest.mark.parametrize(
    ("status", "answer", "delay_s"),
    [(500, {}, 0), (429, {}, 0), (200, b"<html>maintenance</html>", 0), (200, {"user_is_allowed": True}, 5)],
    ids=["500", "429", "html", "hanging"],
)
def test_known_tokens_are_served_and_unknown_ones_asked_to_come_back_while_gitlab_fails(
    gitlab: FakeGitLab, fake_triton: FakeTritonThread, start_gateway: StartGateway, status: int, answer: object,
    delay_s: float,
) -> None:  # fmt: skip
    gateway = start_gateway(fake_triton.address, auth="gitlab", gitlab_api_url=gitlab.url)
    gateway.until_ready()
    assert gateway.complete(headers=GOOD).status_code == 200
    gitlab.status, gitlab.answer, gitlab.delay_s = status, answer, delay_s
    with ThreadPoolExecutor(10) as pool:
        unknown = [pool.submit(gateway.complete, headers=BAD) for _ in range(8)]
        known = [pool.submit(gateway.complete, headers=GOOD) for _ in range(2)]
        assert {each.result(20).status_code for each in known} == {200}
        refused = [each.result(20) for each in unknown]
    assert {each.status_code for each in refused} == {503}
    assert all("retry-after" in each.headers for each in refused)
    calls = sum(token == BAD["Authorization"] for _, token in gitlab.calls)
    assert calls < 8 or delay_s == 0
    gitlab.status, gitlab.answer, gitlab.delay_s = 401, {}, 0
    assert gateway.complete(headers=BAD).status_code == 401


def test_a_revoked_token_is_refused_within_the_cache_time(
    gitlab: FakeGitLab, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(fake_triton.address, auth="gitlab", gitlab_api_url=gitlab.url, gitlab_cache_s=1)
    gateway.until_ready()
    assert gateway.complete(headers=GOOD).status_code == 200
    gitlab.denied = {"good-token"}
    revoked = time.monotonic()
    while gateway.complete(headers=GOOD).status_code == 200:
        assert time.monotonic() - revoked < 2
    assert _refusals(gateway) == [401, 401, 401]


def _refusals(gateway: Gateway) -> list[int]:
    return [gateway.complete(headers=GOOD).status_code for _ in range(3)]

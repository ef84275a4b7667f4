"""GitLab's token check: the recorded cases of gitlab_token_auth_2022, and more."""

import asyncio

import httpx
import pytest

from testing.doubles.fake_gitlab import FakeGitLab
from testing.servers.edge_app import client_of, make_app
from testing.servers.redis_server import RedisServer
from testing.until import until_async

URL = "/v1/completions"
TOKEN = {"Authorization": "Bearer glpat-12345"}


async def _statuses(client: httpx.AsyncClient, times: int, headers: dict[str, str] = TOKEN) -> list[int]:
    return [(await client.post(URL, headers=headers)).status_code for _ in range(times)]


async def test_an_allowed_token_is_served_and_asked_about_once(gitlab: FakeGitLab) -> None:
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 3) == [200, 200, 200]
    assert gitlab.calls == [("/api/v4/ml/ai-assist", "Bearer glpat-12345")]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_denied_token_is_denied_on_every_call(gitlab: FakeGitLab, status: int) -> None:
    gitlab.status, gitlab.reply = status, {"message": "no"}
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 3) == [401, 401, 401]
        assert (await client.post(URL, headers=TOKEN)).json() == {"error": "Forbidden by auth provider"}
    assert len(gitlab.calls) == 4


@pytest.mark.parametrize("value", ["yes", 1, "true", None, [True], {"a": True}])
async def test_only_json_true_allows(gitlab: FakeGitLab, value: object) -> None:
    gitlab.reply = {"user_is_allowed": value}
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 2) == [401, 401]


async def test_an_outage_is_503_and_remembers_nothing(gitlab: FakeGitLab) -> None:
    gitlab.close()
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 3) == [503, 503, 503]
        answer = await client.post(URL, headers=TOKEN)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {}),
        (502, b"<html>"),
        (429, {}),
        (302, b""),
        (200, b"<html>sign in</html>"),
        (200, b"[]"),
        (204, b""),
    ],
)
async def test_an_answer_that_is_no_verdict_is_503(gitlab: FakeGitLab, status: int, answer: object) -> None:
    gitlab.status, gitlab.reply = status, answer
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 2) == [503, 503]


async def test_an_endless_answer_is_cut_off(gitlab: FakeGitLab) -> None:
    gitlab.reply = b'{"user_is_allowed": true}' + b" " * 1_000_000
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 1) == [503]


async def test_a_known_token_is_served_through_an_outage(gitlab: FakeGitLab) -> None:
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        assert await _statuses(client, 1) == [200]
        gitlab.status = 500
        assert await _statuses(client, 2) == [200, 200]
        assert await _statuses(client, 1, {"Authorization": "Bearer unknown"}) == [503]


async def test_a_revoked_token_is_refused_once_its_answer_has_expired(gitlab: FakeGitLab) -> None:
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url, gitlab_cache_ttl_s=0.3)
    async with client_of(app) as client:
        assert await _statuses(client, 1) == [200]
        gitlab.denied = {"glpat-12345"}
        await asyncio.sleep(0.35)
        assert await _statuses(client, 1) == [401]


async def test_a_hanging_gitlab_is_given_up_and_hurts_nobody_else(gitlab: FakeGitLab) -> None:
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url, gitlab_timeout_s=3)
    async with client_of(app) as client, asyncio.timeout(100):
        assert await _statuses(client, 1) == [200]
        gitlab.delay_s = 300
        unknown = asyncio.create_task(client.post(URL, headers={"Authorization": "Bearer unknown"}))
        await until_async(lambda: len(gitlab.calls) == 2)
        assert await _statuses(client, 5) == [200] * 5
        assert not unknown.done()
        assert (await unknown).status_code == 503


async def test_many_requests_of_one_token_ask_once(gitlab: FakeGitLab) -> None:
    gitlab.delay_s = 0.2
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.post(URL, headers=TOKEN) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(gitlab.calls) == 1


async def test_a_caller_that_leaves_does_not_end_the_question_for_the_others(gitlab: FakeGitLab) -> None:
    gitlab.delay_s = 0.2
    app, edge, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app):
        first = asyncio.create_task(edge._gitlab.verify("t"))
        second = asyncio.create_task(edge._gitlab.verify("t"))
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second
    assert len(gitlab.calls) == 1


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "No authorization header presented"),
        ({"Authorization": "Basic abc"}, "Invalid authorization header"),
        ({"Authorization": "glpat-12345"}, "Invalid authorization header"),
        ({"X-Api-Key": "glpat-12345"}, "No authorization header presented"),
    ],
)
async def test_a_header_that_is_not_bearer_gets_the_words_of_2023(
    gitlab: FakeGitLab, headers: dict[str, str], message: str
) -> None:
    app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
    async with client_of(app) as client:
        answer = await client.post(URL, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"error": message}
    assert gitlab.calls == []


async def test_path_and_condition_are_the_operators_choice(gitlab: FakeGitLab) -> None:
    gitlab.reply = {"user": {"active": True}}
    app, _, _ = make_app(
        auth="gitlab",
        gitlab_api_url=gitlab.url.rstrip("/"),
        gitlab_check_path="user",
        gitlab_check_json="user.active",
    )
    async with client_of(app) as client:
        assert await _statuses(client, 1) == [200]
    assert gitlab.calls[0][0] == "/api/v4/user"


async def test_two_replicas_without_a_shared_cache_each_ask(gitlab: FakeGitLab) -> None:
    for _ in range(2):
        app, _, _ = make_app(auth="gitlab", gitlab_api_url=gitlab.url)
        async with client_of(app) as client:
            assert await _statuses(client, 2) == [200, 200]
    assert len(gitlab.calls) == 2


@pytest.mark.redis
async def test_two_replicas_with_redis_and_a_common_salt_ask_once(
    gitlab: FakeGitLab, redis_server: RedisServer
) -> None:
    for _ in range(2):
        app, _, _ = make_app(
            auth="gitlab",
            gitlab_api_url=gitlab.url,
            redis_url=redis_server.url,
            cache_salt="of this deployment",
        )
        async with client_of(app) as client:
            assert await _statuses(client, 2) == [200, 200]
    assert len(gitlab.calls) == 1
    admin = redis_server.admin()
    stored = b" ".join(part for key in admin.scan_iter() for part in (key, admin.get(key)))
    assert b"glpat" not in stored


@pytest.mark.redis
async def test_a_value_that_somebody_wrote_into_redis_lets_nobody_in(
    gitlab: FakeGitLab, redis_server: RedisServer
) -> None:
    gitlab.denied = {"glpat-12345"}
    settings = {
        "auth": "gitlab",
        "gitlab_api_url": gitlab.url,
        "redis_url": redis_server.url,
        "cache_salt": "s",
    }
    app, edge, _ = make_app(**settings)
    from gateway.auth.token_cache import salted_key

    key = salted_key(b"s", f"{gitlab.url}ml/ai-assist", "user_is_allowed", "glpat-12345")
    for value in ("1", "true", key):
        redis_server.admin().set(f"assist:auth:{key}", value)
        async with client_of(app) as client:
            assert await _statuses(client, 1) == [401]
        app, edge, _ = make_app(**settings)
    assert edge is not None

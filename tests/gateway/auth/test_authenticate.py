"""Callers with keys, and callers without."""

from pathlib import Path

import httpx
import pytest

from gateway.auth.keys import create_key, revoke_key
from testing.servers.edge_app import client_of, make_app

URL = "/v1/completions"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer {}"),
        ("authorization", "bearer {}"),
        ("Authorization", "token {}"),
        ("X-Api-Key", "{}"),
        ("api-key", "{}"),
    ],
)
async def test_every_header_that_editors_use_carries_a_key(key_file: Path, name: str, value: str) -> None:
    key_id, secret = create_key(key_file, "ann")
    app, _, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        answer = await client.post(URL, headers={name: value.format(secret)})
    assert answer.status_code == 200
    assert answer.json()["caller"] == key_id


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, "No API key presented"),
        ({"Authorization": "Basic abc"}, "Invalid authorization header"),
        ({"Authorization": "Bearer"}, "Invalid authorization header"),
        ({"Authorization": "Bearer a b"}, "Invalid authorization header"),
        ({"Authorization": "Bearer " + "x" * 9000}, "Invalid authorization header"),
        ({"Authorization": "Bearer ak_wrong"}, "Invalid API key"),
        ({"X-Api-Key": "ak_wrong"}, "Invalid API key"),
    ],
)
async def test_a_bad_key_gets_401_with_the_remedy(key_file: Path, headers: dict[str, str], part: str) -> None:
    create_key(key_file, "ann")
    app, _, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        answer = await client.post(URL, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert part in answer.json()["error"]["message"]
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_revoked_key_says_so(key_file: Path) -> None:
    key_id, secret = create_key(key_file, "ann")
    revoke_key(key_file, key_id)
    app, _, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        answer = await client.post(URL, headers={"Authorization": f"Bearer {secret}"})
    assert "revoked" in answer.json()["error"]["message"]


async def test_a_bad_key_is_refused_before_the_body_is_judged(key_file: Path) -> None:
    create_key(key_file, "ann")
    app, _, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        answer = await client.post(URL, content=b"{not json", headers={"Authorization": "Bearer ak_no"})
    assert answer.status_code == 401


async def test_a_key_keeps_its_own_limits_and_others_get_the_defaults(key_file: Path) -> None:
    _, tight = create_key(key_file, "ann", rpm=1)
    _, default = create_key(key_file, "bob")
    app, _, _ = make_app(auth="keys", keys_file=key_file, default_rpm=2)
    async with client_of(app) as client:
        assert await _statuses(client, tight, 2) == [200, 429]
        assert await _statuses(client, default, 3) == [200, 200, 429]


async def _statuses(client: httpx.AsyncClient, secret: str, times: int) -> list[int]:
    headers = {"Authorization": f"Bearer {secret}"}
    return [(await client.post(URL, headers=headers)).status_code for _ in range(times)]


async def test_a_quota_refusal_says_when_to_come_back(key_file: Path) -> None:
    _, secret = create_key(key_file, "ann", rpm=1)
    app, _, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        await _statuses(client, secret, 1)
        answer = await client.post(URL, headers={"Authorization": f"Bearer {secret}"})
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_usage_is_counted_per_key(key_file: Path) -> None:
    key_id, secret = create_key(key_file, "ann")
    app, edge, _ = make_app(auth="keys", keys_file=key_file)
    async with client_of(app) as client:
        await client.post(URL, content=b"12345", headers={"Authorization": f"Bearer {secret}"})
    used = edge.admission.usage.snapshot()[key_id]
    assert (used["user"], used["requests"], used["tokens"]) == ("ann", 1, 5)


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("not an address", "anonymous"),
    ],
)
async def test_without_authentication_a_caller_is_a_client_address(address: str, caller: str) -> None:
    app, _, _ = make_app()
    async with client_of(app, client=(address, 1)) as client:
        assert (await client.post(URL)).json()["caller"] == caller

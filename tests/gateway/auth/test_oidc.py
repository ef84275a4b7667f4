"""GitLab's signed tokens: accepted and refused tokens, outages and new keys (rows G8, G9, G17)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from testing.doubles.fake_issuer import DISCOVERY, KEYS, FakeIssuer
from testing.servers.edge_app import client_of, make_app

URL = "/v2/completions"
FORBIDDEN = {"error": "Forbidden by auth provider"}


def headers(token: str, **changes: str) -> dict[str, str]:
    good = {
        "Authorization": f"Bearer {token}",
        "X-Gitlab-Authentication-Type": "oidc",
        "X-Gitlab-Instance-Id": "1234",
        "X-Gitlab-Realm": "self-managed",
    }
    return {**good, **changes}


@asynccontextmanager
async def asking(issuer: FakeIssuer, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of an app whose GitLab is ``issuer``; its own token check is a closed port."""
    defaults = {"auth": "gitlab", "gitlab_url": issuer.url, "gitlab_api_url": "http://127.0.0.1:9/api/v4/"}
    app, _, _ = make_app(**{**defaults, **settings})
    async with client_of(app) as client:
        yield client


async def status(client: httpx.AsyncClient, token: str) -> int:
    return (await client.post(URL, headers=headers(token))).status_code


async def test_a_signed_token_is_served_and_the_keys_are_asked_for_once(issuer: FakeIssuer) -> None:
    async with asking(issuer) as client:
        for _ in range(3):
            answer = await client.post(URL, headers=headers(issuer.token()))
            assert answer.status_code == 200, answer.text
    assert issuer.calls == [DISCOVERY, KEYS]
    assert answer.json()["caller"].startswith("gl-")
    assert "1234" not in answer.json()["caller"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "never expires"),
        ({"aud": "another-service"}, "another audience"),
        ({"aud": None}, "no audience"),
        ({"iss": "https://evil.example.com"}, "another issuer"),
        ({"iss": None}, "no issuer"),
        ({"nbf": 9_999_999_999}, "not yet"),
        ({"kid": "invented"}, "unknown key"),
        ({"kid": "k" * 300}, "endless key id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_token_that_is_not_for_us_or_not_of_now_is_refused(
    issuer: FakeIssuer, change: dict[str, Any], why: str
) -> None:
    async with asking(issuer) as client:
        answer = await client.post(URL, headers=headers(issuer.token(**change)))
    assert (answer.status_code, answer.json()) == (401, FORBIDDEN)


async def test_a_token_signed_with_another_key_under_the_same_id_is_refused(issuer: FakeIssuer) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with asking(issuer) as client:
        assert await status(client, issuer.token(key=other)) == 401


async def test_an_unsigned_token_is_refused(issuer: FakeIssuer) -> None:
    async with asking(issuer) as client:
        assert await status(client, issuer.forged("none")) == 401
        assert await status(client, issuer.forged("None")) == 401


async def test_the_public_key_is_no_secret_to_sign_with(issuer: FakeIssuer) -> None:
    async with asking(issuer) as client:
        assert await status(client, issuer.forged("HS256", issuer.public_pem())) == 401


@pytest.mark.parametrize(
    "token", ["x", "a.b.c", "e30.e30.", "glpat-12345", "." * 5, "eyJhbGciOiJSUzI1NiJ9.e30.AA"]
)
async def test_what_is_no_token_is_refused(issuer: FakeIssuer, token: str) -> None:
    async with asking(issuer) as client:
        assert await status(client, token) == 401
    assert issuer.calls == []


@pytest.mark.parametrize(("off_s", "expected"), [(5, 200), (15, 401), (600, 401)])
async def test_a_clock_that_is_off_is_forgiven_by_the_leeway_and_no_more(
    issuer: FakeIssuer, off_s: int, expected: int
) -> None:
    now = int(time.time())
    async with asking(issuer, oidc_leeway_s=10) as client:
        assert await status(client, issuer.token(exp=now - off_s)) == expected
        assert await status(client, issuer.token(nbf=now + off_s, iat=now + off_s)) == expected


@pytest.mark.parametrize("header", ["X-Gitlab-Realm", "X-Gitlab-Instance-Id"])
async def test_a_header_that_contradicts_the_token_is_named(issuer: FakeIssuer, header: str) -> None:
    async with asking(issuer) as client:
        wrong = await client.post(URL, headers=headers(issuer.token(), **{header: "other"}))
        sent = headers(issuer.token())
        del sent[header]
        absent = await client.post(URL, headers=sent)
    for answer in (wrong, absent):
        assert (answer.status_code, answer.json()) == (401, {"error": f"Header mismatch '{header}'"})


@pytest.mark.parametrize(
    "scopes", [None, [], ["duo_chat"], "code_suggestions", {"code_suggestions": 1}, [1, None]]
)
async def test_a_token_without_the_scope_is_a_403(issuer: FakeIssuer, scopes: object) -> None:
    async with asking(issuer) as client:
        answer = await client.post(URL, headers=headers(issuer.token(scopes=scopes)))
    assert (answer.status_code, answer.json()) == (403, {"detail": "Unauthorized to access code completions"})


async def test_the_audience_issuer_and_scope_can_be_chosen(issuer: FakeIssuer) -> None:
    chosen = {
        "oidc_audience": "ours",
        "oidc_issuer": "https://gitlab.example.com",
        "oidc_scopes": "ours, theirs",
    }
    token = issuer.token(aud=["ours", "x"], iss="https://gitlab.example.com", scopes=["theirs"])
    async with asking(issuer, **chosen) as client:
        assert await status(client, token) == 200
        assert await status(client, issuer.token()) == 401


async def test_other_tokens_still_go_to_the_token_check(issuer: FakeIssuer) -> None:
    async with asking(issuer) as client:
        answer = await client.post(URL, headers={"Authorization": f"Bearer {issuer.token()}"})
    assert answer.status_code == 503  # its port is closed
    assert issuer.calls == []


async def test_without_a_check_path_only_signed_tokens_are_taken(issuer: FakeIssuer) -> None:
    async with asking(issuer, gitlab_check_path="") as client:
        answer = await client.post(URL, headers={"Authorization": "Bearer glpat-1"})
        assert await status(client, issuer.token()) == 200
    expected = {"error": "Invalid authentication token type - only OIDC is supported"}
    assert (answer.status_code, answer.json()) == (401, expected)


async def test_a_hundred_first_callers_ask_for_the_keys_once(issuer: FakeIssuer) -> None:
    issuer.delay_s = 0.2
    async with asking(issuer) as client:
        found = await asyncio.gather(*(status(client, issuer.token()) for _ in range(100)))
    assert set(found) == {200}
    assert issuer.calls == [DISCOVERY, KEYS]

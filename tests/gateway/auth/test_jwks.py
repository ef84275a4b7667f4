"""The signing keys' life: rotation, outages, floods and invalid responses (row G8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.auth.jwks import NoKeysError, SigningKeys
from gateway.errors import ApiError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from testing.doubles.fake_issuer import DISCOVERY, KEYS, FakeIssuer
from testing.until import until_async

DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def keys_of(issuer: FakeIssuer, clock: Clock, **settings: Any) -> AsyncIterator[SigningKeys]:
    found = SigningKeys(Settings(gitlab_url=issuer.url, **settings), Metrics(), clock=clock)
    try:
        yield found
    finally:
        await found.close()


async def unavailable(keys: SigningKeys, kid: str) -> bool:
    with pytest.raises(ApiError) as raised:
        await keys.find(kid)
    assert raised.value.retry_after
    return raised.value.status == 503


async def test_a_rotated_key_is_found_at_once_and_the_old_one_is_gone(issuer: FakeIssuer) -> None:
    clock = Clock()
    async with keys_of(issuer, clock) as keys:
        assert await keys.find("first")
        issuer.rotate("second")
        clock.now += 60
        assert await keys.find("second")
        assert await keys.find("first") is None


async def test_a_flood_of_invented_ids_asks_once_per_pause(issuer: FakeIssuer) -> None:
    clock = Clock()
    async with keys_of(issuer, clock, oidc_refresh_s=5) as keys:
        found = await asyncio.gather(*(keys.find(f"invented-{number}") for number in range(200)))
        assert set(found) == {None}
        assert len(issuer.calls) == 2
        clock.now += 5
        await asyncio.gather(*(keys.find(f"more-{number}") for number in range(200)))
        assert len(issuer.calls) == 4


async def test_an_outage_goes_unnoticed_while_the_keys_are_good_and_not_a_second_longer(
    issuer: FakeIssuer,
) -> None:
    clock = Clock()
    async with keys_of(issuer, clock) as keys:
        await keys.find("first")
        issuer.broken = {DISCOVERY: (500, b"")}
        clock.now += DAY - 1
        assert await keys.find("first")
        assert await unavailable(keys, "invented")
        clock.now += 10
        assert await unavailable(keys, "first")


async def test_keys_are_asked_for_anew_halfway_without_making_anybody_wait(issuer: FakeIssuer) -> None:
    clock = Clock()
    async with keys_of(issuer, clock) as keys:
        await keys.find("first")
        clock.now += DAY / 2 + 1
        assert await keys.find("first")
        await until_async(lambda: keys._fetched_at == clock.now)
        assert len(issuer.calls) == 4
        clock.now += DAY / 2 + 1
        issuer.broken = {DISCOVERY: (500, b"")}
        assert await keys.find("first")


async def test_the_first_answer_after_an_outage_is_the_end_of_it(issuer: FakeIssuer) -> None:
    clock = Clock()
    issuer.broken = {KEYS: (502, b"")}
    async with keys_of(issuer, clock, oidc_refresh_s=1) as keys:
        assert await unavailable(keys, "first")
        issuer.broken = {}
        clock.now += 1
        assert await keys.find("first")


ELLIPTIC = b'{"keys": [{"kid": "first", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}'
SECRET = b'{"keys": [{"kid": "first", "kty": "oct", "k": "c2VjcmV0", "alg": "RS256"}]}'


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>sign in</html>"), (200, b"[]"), (200, b"{}"), (200, b""), (302, b""), (429, b""), (500, b"{}"),
        (200, b'{"keys": [], "jwks_uri": "file:///etc/passwd"}'), (200, b'{"keys": [1, null, {}], "jwks_uri": 5}'),
        (200, b"[" * 50_000), (200, b" " * 100_000), (200, ELLIPTIC), (200, SECRET),
        (200, b'{"keys": [{"kid": "first", "kty": "RSA", "n": "!", "e": "AQAB"}]}'),
    ],
)  # fmt: skip
async def test_an_answer_without_keys_is_an_outage(
    issuer: FakeIssuer, path: str, answer: tuple[int, bytes]
) -> None:
    issuer.broken = {path: answer}
    async with keys_of(issuer, Clock()) as keys:
        assert await unavailable(keys, "first")
        assert await unavailable(keys, "first")


async def test_a_key_too_short_to_trust_is_none(issuer: FakeIssuer) -> None:
    issuer.rotate("first", bits=1024)
    async with keys_of(issuer, Clock()) as keys:
        assert await unavailable(keys, "first")


async def test_a_closed_port_and_a_server_that_hangs_are_outages_within_the_time_out(
    issuer: FakeIssuer,
) -> None:
    issuer.delay_s = 300
    async with keys_of(issuer, Clock(), gitlab_timeout_s=0.1) as keys, asyncio.timeout(100):
        assert await unavailable(keys, "first")
    issuer.close()
    async with keys_of(issuer, Clock()) as keys:
        assert await unavailable(keys, "first")


async def test_a_caller_that_leaves_ends_nobody_elses_question(issuer: FakeIssuer) -> None:
    issuer.delay_s = 0.2
    async with keys_of(issuer, Clock()) as keys:
        leaver = asyncio.create_task(keys.find("first"))
        waiter = asyncio.create_task(keys.find("first"))
        await asyncio.sleep(0.05)
        leaver.cancel()
        assert await waiter


async def test_keys_are_not_fetched_in_the_clear_when_gitlab_is_not() -> None:
    keys = SigningKeys(Settings(gitlab_url="https://gitlab.example.com"), Metrics())
    with pytest.raises(NoKeysError, match="no jwks_uri"):
        keys._keys_url({"jwks_uri": "http://gitlab.example.com/oauth/discovery/keys"})
    await keys.close()

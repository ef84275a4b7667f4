"""The public keys with which a GitLab server signs its tokens (OpenID Connect Discovery 1.0, RFC 7517).

Keys are good for ``oidc_keys_s`` seconds and asked for anew from half of that on, so an outage of GitLab goes
unnoticed for half that time at least, and a withdrawn key is refused after the whole of it at most.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway import errors
from gateway.auth import bounded_get

if TYPE_CHECKING:
    from gateway.edge_settings import EdgeSettings
    from gateway.telemetry.metrics import Metrics

ALGORITHM = "RS256"
_DISCOVERY = "/.well-known/openid-configuration"
_MAX_KEYS = 64
_MIN_BITS = 2048  # RFC 7518 section 3.3
_RETRY_AFTER_S = 2.0


class NoKeysError(Exception):
    """The provider's answer holds no usable keys; the message is a word of our own, safe to count."""


class SigningKeys:
    """Finds a key by its id; asks GitLab once at a time, and not oftener than every ``oidc_refresh_s``.

    An id that is not known may belong to a new key, so it is worth a question; the pause keeps a flood of
    invented ids from becoming a flood at GitLab. A real new key waits for that pause at most.
    """

    def __init__(
        self, settings: "EdgeSettings", metrics: "Metrics", client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._client = client or httpx.AsyncClient(
            timeout=settings.gitlab_timeout_s, follow_redirects=False, limits=httpx.Limits(max_connections=4)
        )
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched = self._asked = float("-inf")
        self._failed = False
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> RSAPublicKey | None:
        """Return the key, ``None`` when GitLab has no such key; raise 503 when GitLab can't say."""
        age = self._clock() - self._fetched
        if age > self._settings.oidc_keys_s:
            self._keys = {}
        elif key_id in self._keys:
            if age > self._settings.oidc_keys_s / 2:
                self._refresh()
            return self._keys[key_id]
        if task := self._refresh():
            await asyncio.shield(task)  # who leaves ends nobody else's question
        if key_id not in self._keys and self._failed:
            raise self._no_answer()
        return self._keys.get(key_id)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Join the question under way or start one, unless the last was just now."""
        if self._asking is None and self._clock() - self._asked >= self._settings.oidc_refresh_s:
            self._asked = self._clock()
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._forget)
        return self._asking

    def _forget(self, _done: "asyncio.Task[None]") -> None:
        self._asking = None

    async def _ask(self) -> None:
        started = time.perf_counter()
        self._failed = True  # until shown otherwise, also when this is cancelled
        try:
            async with asyncio.timeout(2 * self._settings.gitlab_timeout_s):
                document = await self._json(self._settings.gitlab_url + _DISCOVERY)
                keys = _usable(await self._json(self._keys_url(document)))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, NoKeysError) as error:
            why = str(error) if isinstance(error, NoKeysError) else type(error).__name__
            self._metrics.auth_failure(why)
            return
        finally:
            self._metrics.auth_latency(time.perf_counter() - started)
        self._keys, self._fetched, self._failed = keys, self._clock(), False

    async def _json(self, url: str) -> dict[str, Any]:
        status, body = await bounded_get.get(self._client, url, {})
        if status != 200:
            raise NoKeysError(f"status {status}")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise NoKeysError("no JSON") from None
        if not isinstance(document, dict):
            raise NoKeysError("no JSON")
        return document

    def _keys_url(self, document: dict[str, Any]) -> str:
        """Return ``jwks_uri``; keys fetched without TLS would undo the TLS of the question before."""
        url = document.get("jwks_uri")
        schemes = ("https://",) if self._settings.gitlab_url.startswith("https:") else ("https://", "http://")
        if not isinstance(url, str) or not url.startswith(schemes):
            raise NoKeysError("no jwks_uri")
        return url

    def _no_answer(self) -> errors.ApiError:
        self._metrics.auth("unavailable")
        return errors.unavailable(
            "The authentication provider's keys can't be read; your token was not judged. Try again shortly.",
            _RETRY_AFTER_S,
            "auth_provider_unavailable",
        )

    async def close(self) -> None:
        """End a question under way and close the connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.aclose()


def _usable(document: dict[str, Any]) -> dict[str, RSAPublicKey]:
    """Return the RSA signing keys by id; others are left out, and none at all is no answer."""
    entries = document.get("keys")
    named = [] if not isinstance(entries, list) else [_read(entry) for entry in entries[:_MAX_KEYS]]
    keys = dict(pair for pair in named if pair is not None)
    if not keys:
        raise NoKeysError("no keys")
    return keys


def _read(entry: object) -> tuple[str, RSAPublicKey] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if (
        entry.get("kty") != "RSA"
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", ALGORITHM) != ALGORITHM
    ):
        return None
    try:
        key = jwt.PyJWK(entry, ALGORITHM).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    # A private key published by mistake is known to everybody, so it proves nothing.
    return (entry["kid"], key) if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_BITS else None

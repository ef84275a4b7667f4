"""The public keys of a GitLab server that signs tokens (OpenID Connect Discovery 1.0, RFC 7517).

Keys are used for ``oidc_keys_ttl_s`` seconds and fetched again from half of that time on, so an outage of
GitLab goes unnoticed for at least half of it, and a withdrawn key is refused after the whole of it.
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
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

ALGORITHM = "RS256"
_DISCOVERY = "/.well-known/openid-configuration"
_MAX_KEYS = 64
_MIN_BITS = 2048  # RFC 7518 section 3.3
_RETRY_AFTER_S = 2.0


class NoKeysError(Exception):
    """The provider's response has no usable keys; the message is one of a fixed set, safe as a label."""


class SigningKeys:
    """Finds a key by its id; fetches GitLab's keys once at a time, and every ``oidc_refresh_s`` at most.

    An unknown id may belong to a new key, so it causes a fetch; the pause keeps a flood of invented ids from
    becoming a flood of requests to GitLab. A real new key waits for that pause at most.
    """

    def __init__(
        self, settings: "Settings", metrics: "Metrics", client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._client = client or httpx.AsyncClient(
            timeout=settings.gitlab_timeout_s, follow_redirects=False, limits=httpx.Limits(max_connections=4)
        )
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at = self._requested_at = float("-inf")
        self._failed = False
        self._pending: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> RSAPublicKey | None:
        """Return the key, ``None`` when GitLab has no such key; raises 503 when GitLab is down."""
        age = self._clock() - self._fetched_at
        if age > self._settings.oidc_keys_ttl_s:
            self._keys = {}
        elif key_id in self._keys:
            if age > self._settings.oidc_keys_ttl_s / 2:
                self._refresh()
            return self._keys[key_id]
        if task := self._refresh():
            await asyncio.shield(task)  # single-flight: a cancelled waiter does not cancel the others
        if key_id not in self._keys and self._failed:
            raise self._unavailable()
        return self._keys.get(key_id)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Join the fetch under way or start one, unless the last was just now."""
        if self._pending is None and self._clock() - self._requested_at >= self._settings.oidc_refresh_s:
            self._requested_at = self._clock()
            self._pending = asyncio.create_task(self._fetch())
            self._pending.add_done_callback(self._clear)
        return self._pending

    def _clear(self, _done: "asyncio.Task[None]") -> None:
        self._pending = None

    async def _fetch(self) -> None:
        started = time.perf_counter()
        self._failed = True  # until the fetch succeeds, also when it is cancelled
        try:
            async with asyncio.timeout(2 * self._settings.gitlab_timeout_s):
                document = await self._json(self._settings.gitlab_url + _DISCOVERY)
                keys = _usable(await self._json(self._keys_url(document)))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, NoKeysError) as error:
            self._metrics.auth_failure(str(error) if isinstance(error, NoKeysError) else type(error).__name__)
            return
        finally:
            self._metrics.auth_latency(time.perf_counter() - started)
        self._keys, self._fetched_at, self._failed = keys, self._clock(), False

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
        """Return ``jwks_uri``; keys fetched without TLS would undo the TLS of the request before."""
        url = document.get("jwks_uri")
        schemes = ("https://",) if self._settings.gitlab_url.startswith("https:") else ("https://", "http://")
        if not isinstance(url, str) or not url.startswith(schemes):
            raise NoKeysError("no jwks_uri")
        return url

    def _unavailable(self) -> errors.ApiError:
        self._metrics.auth("unavailable")
        return errors.unavailable(
            "The authentication provider's keys can't be read; your token could not be checked. "
            "Try again shortly.",
            _RETRY_AFTER_S,
            "auth_provider_unavailable",
        )

    async def close(self) -> None:
        """Cancel a fetch under way and close the connections."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        await self._client.aclose()


def _usable(document: dict[str, Any]) -> dict[str, RSAPublicKey]:
    """Return the RSA signing keys by id, without other keys; raises ``NoKeysError`` where none is left."""
    entries = document.get("keys")
    pairs = [] if not isinstance(entries, list) else [_read(entry) for entry in entries[:_MAX_KEYS]]
    keys = dict(pair for pair in pairs if pair is not None)
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
    # A private key that was published by mistake proves nothing: everybody can sign with it.
    return (entry["kid"], key) if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_BITS else None

"""Check with a GitLab server whether an access token may use completions.

Contract: GitLab AI Assist 2022-2023. ``GET urljoin(GITLAB_API_URL, check path)`` with the caller's token;
allowed when the status is 200 and the configured JSON key is exactly ``true``. Current GitLab releases have
no ``ml/ai-assist``: set the path to e.g. ``user`` and an empty key, and any valid token is allowed.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx

from gateway import errors
from gateway.auth import bounded_get
from gateway.auth.token_cache import AllowCache, salted_key

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

FORBIDDEN = "Forbidden by auth provider"
_MAX_PENDING = 256
_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """The request that checks a token: URL, dotted JSON key that must be true (empty: any 200), time-out."""

    url: str
    condition: str
    timeout_s: float


class GitLab:
    """Verifies access tokens: allowed ones are cached, one check per token at a time, an outage denies none.

    A token that is revoked at GitLab is refused once its cache entry expires, ``gitlab_cache_ttl_s`` later at
    most.
    """

    def __init__(
        self,
        check: Check,
        cache: AllowCache,
        salt: bytes,
        metrics: "Metrics",
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._check, self._cache, self._salt, self._metrics = check, cache, salt, metrics
        self._client = client or httpx.AsyncClient(
            timeout=check.timeout_s,
            follow_redirects=False,  # a redirect must not carry the token to another host
            limits=httpx.Limits(max_connections=32),
        )
        self._pending: dict[str, asyncio.Task[bool]] = {}

    @classmethod
    def from_settings(
        cls, settings: "Settings", cache: AllowCache, salt: bytes, metrics: "Metrics"
    ) -> "GitLab":
        """Return the verifier that the settings describe."""
        url = urljoin(settings.gitlab_api_url, settings.gitlab_check_path)
        return cls(Check(url, settings.gitlab_check_json, settings.gitlab_timeout_s), cache, salt, metrics)

    async def verify(self, token: str) -> str:
        """Return the salted id of an allowed token; raises 401 when denied, 503 when GitLab is down."""
        key = salted_key(self._salt, self._check.url, self._check.condition, token)
        if await self._cache.allowed(key):
            self._metrics.auth("cached")
            return key
        if not await self._check_once(key, token):
            self._metrics.auth("denied")
            raise errors.unauthenticated(FORBIDDEN)
        self._metrics.auth("allowed")
        return key

    async def _check_once(self, key: str, token: str) -> bool:
        """Join or start this token's check; single-flight: a cancelled waiter does not cancel the others."""
        task = self._pending.get(key)
        if task is None:
            if len(self._pending) >= _MAX_PENDING:
                raise self._unavailable("too many unknown tokens at once")
            task = self._pending[key] = asyncio.create_task(self._check_token(key, token))
            task.add_done_callback(lambda done: self._remove(key, done))
        return await asyncio.shield(task)

    def _remove(self, key: str, done: "asyncio.Task[bool]") -> None:
        self._pending.pop(key, None)
        if not done.cancelled():
            done.exception()  # read it, or asyncio logs it when every waiter has left

    async def _check_token(self, key: str, token: str) -> bool:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(
                self._check.timeout_s
            ):  # httpx's own limits are per read, not in total
                status, body = await bounded_get.get(
                    self._client, self._check.url, {"Authorization": f"Bearer {token}"}
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise self._unavailable(type(error).__name__) from None
        finally:
            self._metrics.auth_latency(time.perf_counter() - started)
        if status in (401, 403, 404):
            return False
        if status != 200 or (allowed := _condition_met(body, self._check.condition)) is None:
            raise self._unavailable(f"status {status}")
        if allowed:
            await self._cache.allow(key)
        return allowed

    def _unavailable(self, cause: str) -> errors.ApiError:
        self._metrics.auth("unavailable")
        self._metrics.auth_failure(cause)
        return errors.unavailable(
            "The authentication provider did not respond; your token could not be checked. "
            "Try again shortly.",
            _RETRY_AFTER_S,
            "auth_provider_unavailable",
        )

    async def close(self) -> None:
        """Cancel checks under way and close the connections."""
        for task in tuple(self._pending.values()):
            task.cancel()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)
        await self._client.aclose()


def _condition_met(body: bytes, condition: str) -> bool | None:
    """Return whether the JSON key is exactly ``true``; ``None`` when the body is not a JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if not condition:
        return True
    value: object = document
    for key in condition.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value is True

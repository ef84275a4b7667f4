"""Ask a GitLab server whether a token may use completions.

Contract: GitLab AI Assist 2022-2023. ``GET urljoin(GITLAB_API_URL, check path)`` with the caller's token;
allowed when the status is 200 and the configured JSON key is exactly ``true``. Present GitLab releases have
no ``ml/ai-assist``: set the path to e.g. ``user`` and the key to nothing, and any valid token is allowed.
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
    from gateway.edge_settings import EdgeSettings
    from gateway.telemetry.metrics import Metrics

FORBIDDEN = "Forbidden by auth provider"
_MAX_PENDING = 256
_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """What to ask: URL, dotted JSON key that must be true (empty: any 200), time-out in seconds."""

    url: str
    condition: str
    timeout_s: float


class GitLab:
    """Verifies tokens: positive answers cached, one question per token at a time, an outage is never a no.

    A token revoked at GitLab is refused when its cached answer expires, ``gitlab_cache_s`` later at most.
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
        self._asking: dict[str, asyncio.Task[bool]] = {}

    @classmethod
    def from_settings(
        cls, settings: "EdgeSettings", cache: AllowCache, salt: bytes, metrics: "Metrics"
    ) -> "GitLab":
        """Build the check that the settings describe."""
        url = urljoin(settings.gitlab_api_url, settings.gitlab_check_path)
        return cls(Check(url, settings.gitlab_check_json, settings.gitlab_timeout_s), cache, salt, metrics)

    async def verify(self, token: str) -> str:
        """Return the salted id of an allowed token; raise 401 when denied, 503 when GitLab can't say."""
        key = salted_key(self._salt, self._check.url, self._check.condition, token)
        if await self._cache.allowed(key):
            self._metrics.auth("cached")
            return key
        if not await self._ask_once(key, token):
            self._metrics.auth("denied")
            raise errors.unauthenticated(FORBIDDEN)
        self._metrics.auth("allowed")
        return key

    async def _ask_once(self, key: str, token: str) -> bool:
        """Join the question under way for this token, or start it; who leaves ends nobody else's."""
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= _MAX_PENDING:
                raise self._no_answer("too many unknown tokens at once")
            task = self._asking[key] = asyncio.create_task(self._ask(key, token))
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: str, done: "asyncio.Task[bool]") -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # read it, or asyncio reports it when every caller has left

    async def _ask(self, key: str, token: str) -> bool:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(
                self._check.timeout_s
            ):  # httpx's own limits are per read, not in total
                status, body = await bounded_get.get(
                    self._client, self._check.url, {"Authorization": f"Bearer {token}"}
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise self._no_answer(type(error).__name__) from None
        finally:
            self._metrics.auth_latency(time.perf_counter() - started)
        if status in (401, 403, 404):
            return False
        if status != 200 or (allowed := _holds(body, self._check.condition)) is None:
            raise self._no_answer(f"status {status}")
        if allowed:
            await self._cache.allow(key)
        return allowed

    def _no_answer(self, why: str) -> errors.ApiError:
        self._metrics.auth("unavailable")
        self._metrics.auth_failure(why)
        return errors.unavailable(
            "The authentication provider did not answer; your token was not judged. Try again shortly.",
            _RETRY_AFTER_S,
            "auth_provider_unavailable",
        )

    async def close(self) -> None:
        """End questions under way and close the connections."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._client.aclose()


def _holds(body: bytes, condition: str) -> bool | None:
    """Say whether the JSON key is exactly ``true``; ``None`` when the body is no JSON object."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    if not condition:
        return True
    value: object = answer
    for key in condition.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value is True

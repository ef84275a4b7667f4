"""Health routes: live means that the process responds, ready that the model does.

The paths are those that Kubernetes probes, llama.cpp, LiteLLM and GitLab use. None needs a key, and liveness
never touches the engine, so that a slow model does not get the gateway killed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from gateway.http.drain import Drain

_CACHE_S = 1.0
_PROBE_S = 1.5
LIVE_PATHS = ("/health", "/v1/health", "/monitoring/healthz", "/health/liveliness", "/health/liveness")
READY_PATHS = ("/ready", "/monitoring/ready", "/health/readiness")
ENGINE_PATHS = ("/monitoring/tritonz",)
PATHS = frozenset((*LIVE_PATHS, *READY_PATHS, *ENGINE_PATHS))


class Readiness:
    """The engine's readiness, checked once a second at most; ``ready`` must never raise."""

    def __init__(
        self, ready: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ready, self._clock = ready, clock
        self._result, self._valid_until = False, -1.0
        self._pending: asyncio.Task[bool] | None = None

    async def check(self) -> bool:
        """Return whether the engine is ready, as of a second ago at most."""
        if self._clock() < self._valid_until:
            return self._result
        if self._pending is None:
            self._pending = asyncio.create_task(self._probe())
        return await asyncio.shield(self._pending)

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_S):
                self._result = await self._ready()
        except TimeoutError:
            self._result = False
        finally:
            self._valid_until, self._pending = self._clock() + _CACHE_S, None
        return self._result


def routes(readiness: Readiness, drain: Drain) -> APIRouter:
    """Return the health routes, which are not in the OpenAPI document, as in the systems they come from."""
    router = APIRouter(include_in_schema=False)

    async def live() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready() -> JSONResponse:
        if drain.stopping:
            return _unready("shutting_down", "The gateway is stopping")
        return await engine()

    async def engine() -> JSONResponse:
        if await readiness.check():
            return JSONResponse({"status": "ok"})
        return _unready("unavailable", "Loading model")

    for paths, endpoint in ((LIVE_PATHS, live), (READY_PATHS, ready), (ENGINE_PATHS, engine)):
        for path in paths:
            router.add_api_route(path, endpoint, methods=["GET", "HEAD"])
    return router


def _unready(status: str, message: str) -> JSONResponse:
    """Return llama.cpp's 503 body with LiteLLM's ``status``, so that both kinds of probe read it."""
    error = {"code": 503, "message": message, "type": "unavailable_error"}
    return JSONResponse({"status": status, "error": error}, 503, headers={"Retry-After": "1"})

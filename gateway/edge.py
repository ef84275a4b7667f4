"""Composition root of everything between a connection and the completion: who may call, how much, how long.

``Edge(settings)`` builds the parts once per application::

    edge = Edge(settings)
    edge.install(app, ready=engine.ready)      # middlewares, health routes, app.state.edge
    async with edge.running():                 # inside the lifespan: metrics port, HTTP client, Redis
        ...

A route then uses ``Depends(authenticate)`` from ``gateway.auth.authenticate``,
``edge.admission.slot(caller, request_id)``, ``edge.admission.charge(caller, tokens)`` and ``edge.metrics``.
``gateway.http.server.server(app, settings, ...)`` returns a uvicorn server with header time-outs and a drain
on SIGTERM.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from fastapi import FastAPI
from redis.exceptions import RedisError

from gateway.admission.admission import Admission
from gateway.admission.rate_limits import LocalLimiter, RedisLimiter
from gateway.auth.authenticate import Anonymous, Authenticator, ByGitLab, ByKey
from gateway.auth.gitlab import GitLab
from gateway.auth.jwks import SigningKeys
from gateway.auth.key_store import KeyStore
from gateway.auth.oidc import Oidc
from gateway.auth.token_cache import LocalCache, RedisCache, salt_or_random
from gateway.http.drain import Drain
from gateway.http.health import Readiness, routes
from gateway.http.middleware import install
from gateway.redis_client import RedisClient
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.metrics_server import MetricsPortError, MetricsServer, serve
from gateway.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)
_WATCH_S = 5.0


class Edge:
    """Authentication, admission control, metrics and lifecycle of one application.

    Raises ``KeyFileError`` when authentication is by keys and their file can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.metrics_users)
        self.metrics.about(settings.release, settings.model, settings.model_revision)
        self.tracing = Tracing(settings.otlp_endpoint, settings.otlp_ratio, settings.release)
        self.drain = Drain()
        self.metrics.watch_draining(lambda: self.drain.stopping)
        self._redis = self._redis_client()
        limiter = LocalLimiter() if self._redis is None else RedisLimiter(self._redis, LocalLimiter())
        self.admission = Admission(settings, self.metrics, limiter)
        self._gitlab: GitLab | None = None
        self._oidc: Oidc | None = None
        if settings.auth_mode == "gitlab":
            self._gitlab, self._oidc = self._token_verifiers()
        self.authenticator = self._authenticator()
        self.metrics_server: MetricsServer | None = None
        self._readiness: Readiness | None = None

    def install(self, app: FastAPI, ready: Callable[[], Awaitable[bool]]) -> None:
        """Add the middlewares and the health routes to ``app``; ``ready`` returns whether the engine is."""
        app.state.edge = self
        self._readiness = Readiness(ready)
        app.include_router(routes(self._readiness, self.drain))
        install(app, self.settings, self.metrics, self.drain)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the metrics port, and close all connections at the end.

        Raises ``MetricsPortError`` with the remedy when the port cannot be opened.
        """
        settings = self.settings
        async with AsyncExitStack() as stack:
            if self._redis is not None:
                stack.push_async_callback(self._redis.close)
            for verifier in (self._gitlab, self._oidc):
                if verifier is not None:
                    stack.push_async_callback(verifier.close)
            if settings.metrics_port is not None:
                self.metrics_server = self._serve_metrics(settings.metrics_host, settings.metrics_port)
                stack.callback(self.metrics_server.close)
            stack.push_async_callback(asyncio.to_thread, self.tracing.close)
            watch = asyncio.create_task(self._watch())
            stack.callback(watch.cancel)
            yield

    async def _watch(self) -> None:
        """Keep the metrics of engine and cache current, also where nothing else asks for them."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._readiness is not None:
                self.metrics.engine_up(up=await self._readiness.check())
            if self._redis is not None:
                with suppress(RedisError):  # counted and logged where the command failed
                    if memory := await self._redis.memory():
                        self.metrics.redis_memory("cache", *memory)

    def _serve_metrics(self, host: str, port: int) -> MetricsServer:
        try:
            server = serve(self.metrics, self.admission.usage, host, port)
        except MetricsPortError as error:
            _log.error("The gateway cannot start: %s", error)  # uvicorn would log only the type
            raise
        _log.info("Metrics on http://%s:%d/metrics", host, server.port)
        return server

    def _redis_client(self) -> RedisClient | None:
        url = self.settings.redis
        if url is None:
            return None
        return RedisClient(url, self.settings.redis_timeout_s, on_error=self.metrics.redis_failed)

    def _token_verifiers(self) -> tuple[GitLab, Oidc]:
        settings = self.settings
        configured = settings.cache_salt.get_secret_value() if settings.cache_salt else None
        salt = salt_or_random(configured)
        local = LocalCache(settings.gitlab_cache_ttl_s)
        cache = (
            local
            if self._redis is None
            else RedisCache(self._redis, local, salt, settings.gitlab_cache_ttl_s)
        )
        oidc = Oidc(settings, SigningKeys(settings, self.metrics), salt, self.metrics)
        return GitLab.from_settings(settings, cache, salt, self.metrics), oidc

    def _authenticator(self) -> Authenticator:
        settings = self.settings
        if self._gitlab is not None and self._oidc is not None:
            return ByGitLab(settings, self._gitlab, self._oidc, self.metrics)
        if settings.auth_mode == "keys" and settings.keys_file is not None:
            keys = KeyStore(settings.keys_file)
            self.metrics.watch_keys(keys.is_readable)
            return ByKey(settings, keys, self.metrics)
        return Anonymous(settings)

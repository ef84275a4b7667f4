"""Middlewares around the routes: pure ASGI, so that streams and disconnects pass through unchanged.

From the outside in: ``RequestContext`` (ids, access log, metrics), ``Cors``, ``Draining``, ``BodyLimits``
(size and time).
"""

from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway.http.drain import Drain
from gateway.http.middleware.body import BodyLimits
from gateway.http.middleware.context import RequestContext
from gateway.http.middleware.cors import Cors, allowed_origins
from gateway.http.middleware.draining import Draining
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.settings import Settings

__all__ = ["BodyLimits", "Cors", "Draining", "RequestContext", "install"]


def install(app: FastAPI, settings: "Settings", metrics: Metrics, drain: Drain) -> None:
    """Add all middlewares in their order; Starlette puts the last one added outermost."""
    gitlab = settings.auth_mode == "gitlab"
    app.add_middleware(
        BodyLimits,
        limit_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        drain=drain,
        gitlab=gitlab,
    )
    app.add_middleware(Draining, drain=drain, gitlab=gitlab)
    origins = allowed_origins(settings.cors_origins, authenticated=settings.auth_mode != "none")
    app.add_middleware(Cors, origins=origins)
    app.add_middleware(RequestContext, metrics=metrics)

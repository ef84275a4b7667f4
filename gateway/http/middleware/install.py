"""Put the middlewares around an app in the one right order."""

from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway.http.drain import Drain
from gateway.http.middleware.body import Body
from gateway.http.middleware.context import RequestContext
from gateway.http.middleware.cors import Cors
from gateway.http.middleware.draining import Draining
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.edge_settings import EdgeSettings


def install(app: FastAPI, settings: "EdgeSettings", metrics: Metrics, drain: Drain) -> None:
    """Add all middlewares; Starlette puts the last one added outermost."""
    gitlab = settings.auth_mode == "gitlab"
    app.add_middleware(
        Body,
        limit_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        drain=drain,
        gitlab=gitlab,
    )
    app.add_middleware(Draining, drain=drain, gitlab=gitlab)
    app.add_middleware(Cors, origins=settings.origins)
    app.add_middleware(RequestContext, metrics=metrics)

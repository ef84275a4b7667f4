"""Put the middlewares around an app in the one right order."""

from typing import TYPE_CHECKING

from fastapi import FastAPI

from api.edge.drain import Drain
from api.edge.metrics import Metrics
from api.edge.middleware.body import Body
from api.edge.middleware.context import RequestContext
from api.edge.middleware.cors import Cors
from api.edge.middleware.draining import Draining

if TYPE_CHECKING:
    from api.edge.settings import EdgeSettings


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

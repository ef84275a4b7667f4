"""The application: settings in, FastAPI out. Nothing is global, so tests make as many as they like."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from api import error_pages, pipeline
from api.dialects import chat, copilot, gitlab, gitlab_v3, jobs, llamacpp, llamacpp_info, openai
from api.edge.assembly import Edge
from api.engine.base import Engine
from api.gateway import Gateway
from api.model_names import ModelNames
from api.pipeline import Pipeline
from api.settings import COMMON_ALIASES, Settings

if TYPE_CHECKING:
    from jobs.desk import Desk


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Return the gateway; ``engine`` replaces the one that the settings describe.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """
    parts = pipeline.build(settings, engine)
    settings = parts.settings
    edge = Edge(settings)
    desk = _desk(settings, edge)
    app = FastAPI(
        title="assist",
        docs_url=settings.docs_url,
        openapi_url=settings.openapi_url,
        redoc_url=settings.redoc_url,
        lifespan=_lifespan(edge, parts.engine, desk),
    )
    _set_state(app, parts, edge, desk)
    for dialect in (openai, chat, copilot, gitlab, gitlab_v3, llamacpp, llamacpp_info, jobs):
        app.include_router(dialect.router)
    error_pages.install(app, gitlab=settings.auth_mode == "gitlab")
    edge.install(app, parts.engine.ready)
    return app


def _desk(settings: Settings, edge: Edge) -> "Desk | None":
    """Return where jobs are handed in; ``None`` without a queue."""
    if settings.jobs_redis_url is None:
        return None
    from jobs.desk import Desk  # Celery takes a third of a second, which only those who use it need to wait

    return Desk(settings, edge.metrics.registry)


def _set_state(app: FastAPI, parts: Pipeline, edge: Edge, desk: "Desk | None") -> None:
    """Put on the app what the dialects ask for."""
    settings = parts.settings
    app.state.gateway = Gateway(settings, parts.completer, edge.admission, edge.metrics)
    app.state.model_names = ModelNames(
        settings.model, (*COMMON_ALIASES, *settings.model_aliases), any_name=settings.unknown_model == "alias"
    )
    app.state.has_fim = parts.has_fim
    app.state.context_length = parts.context_length
    app.state.created = int(time.time())
    app.state.desk = desk


def _lifespan(
    edge: Edge, engine: Engine, desk: "Desk | None"
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(edge.running())
            stack.push_async_callback(engine.close)
            if desk is not None:
                await stack.enter_async_context(desk.running())
            yield

    return lifespan

"""The application: settings in, FastAPI out. Nothing is global, so tests make as many as they like."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway import wiring
from gateway.completion.service import CompletionService
from gateway.dialects import chat, copilot, gitlab, gitlab_v3, jobs, llamacpp, llamacpp_info, openai
from gateway.edge import Edge
from gateway.engine.base import Engine
from gateway.http import exception_handlers
from gateway.model_names import ModelNames
from gateway.settings import COMMON_ALIASES, Settings
from gateway.wiring import Components

if TYPE_CHECKING:
    from gateway.jobs.service import JobService


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Return the gateway; ``engine`` replaces the one that the settings describe.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """
    parts = wiring.build(settings, engine)
    settings = parts.settings
    edge = Edge(settings)
    job_service = _job_service(settings, edge)
    app = FastAPI(
        title="assist",
        docs_url=settings.docs_url,
        openapi_url=settings.openapi_url,
        redoc_url=settings.redoc_url,
        lifespan=_lifespan(edge, parts.engine, job_service),
    )
    _set_state(app, parts, edge, job_service)
    for dialect in (openai, chat, copilot, gitlab, gitlab_v3, llamacpp, llamacpp_info, jobs):
        app.include_router(dialect.router)
    exception_handlers.install(app, gitlab=settings.auth_mode == "gitlab")
    edge.install(app, parts.engine.ready)
    return app


def _job_service(settings: Settings, edge: Edge) -> "JobService | None":
    """Return where jobs are handed in; ``None`` without a queue."""
    if settings.jobs_redis_url is None:
        return None
    from gateway.jobs.service import (
        JobService,  # Celery takes a third of a second, which only those who use it need to wait
    )

    return JobService(settings, edge.metrics.registry)


def _set_state(app: FastAPI, parts: Components, edge: Edge, job_service: "JobService | None") -> None:
    """Put on the app what the dialects ask for."""
    settings = parts.settings
    app.state.gateway = CompletionService(settings, parts.completer, edge.admission, edge.metrics)
    app.state.model_names = ModelNames(
        settings.model, (*COMMON_ALIASES, *settings.model_aliases), any_name=settings.unknown_model == "alias"
    )
    app.state.has_fim = parts.has_fim
    app.state.context_length = parts.context_length
    app.state.created = int(time.time())
    app.state.job_service = job_service


def _lifespan(
    edge: Edge, engine: Engine, job_service: "JobService | None"
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(edge.running())
            stack.push_async_callback(engine.close)
            if job_service is not None:
                await stack.enter_async_context(job_service.running())
            yield

    return lifespan

"""The application factory. Nothing is global, so a process, such as a test's, may hold many applications."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway import wiring
from gateway.completion.service import CompletionService
from gateway.dialects import chat, copilot, gitlab, gitlab_v3, jobs, llamacpp, openai
from gateway.edge import Edge
from gateway.engine.base import Engine
from gateway.http import exception_handlers
from gateway.model_names import COMMON_ALIASES, ModelNames
from gateway.settings import Settings
from gateway.telemetry.measurement import Telemetry
from gateway.wiring import Components

if TYPE_CHECKING:
    from gateway.jobs.service import JobService


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Return the gateway as an ASGI application; connections open when its lifespan starts.

    Args:
        settings: everything that can be configured; ``Settings.from_environment()`` reads the process's own.
        engine: used instead of the engine that the settings describe; the application closes it.

    Returns:
        The application; serve it with ``gateway.http.server.server``, which drains it on SIGTERM.

    Raises:
        ValueError: a setting cannot work, such as a ``model_dir`` without a readable tokenizer; the message
            names the remedy. ``KeyFileError``, for the key file, is one of these.
        OSError: a file that a setting names cannot be read.
    """
    components = wiring.build(settings, engine)
    settings = components.settings
    edge = Edge(settings)
    job_service = _job_service(settings, edge)
    app = FastAPI(
        title="ai-assist",
        docs_url=settings.docs_url,
        openapi_url=settings.openapi_url,
        redoc_url=settings.redoc_url,
        lifespan=_lifespan(edge, components.engine, job_service),
    )
    _set_state(app, components, edge, job_service)
    for dialect in (openai, chat, copilot, gitlab, gitlab_v3, llamacpp, jobs):
        app.include_router(dialect.router)
    exception_handlers.install(app, gitlab=settings.auth_mode == "gitlab")
    edge.install(app, components.engine.ready)
    return app


def _job_service(settings: Settings, edge: Edge) -> "JobService | None":
    """Return the service that accepts jobs; ``None`` without a queue."""
    if settings.jobs_redis_url is None:
        return None
    from gateway.jobs.service import (
        JobService,  # Celery takes a third of a second to import, so only those who use it wait for it
    )

    return JobService(settings, edge.metrics)


def _set_state(app: FastAPI, components: Components, edge: Edge, job_service: "JobService | None") -> None:
    """Put on the app what the dialects use."""
    settings = components.settings
    app.state.completion_service = CompletionService(
        settings, components.completer, edge.admission, Telemetry(edge.metrics, edge.tracing, settings.model)
    )
    app.state.model_names = ModelNames(
        settings.model, (*COMMON_ALIASES, *settings.model_aliases), any_name=settings.unknown_model == "alias"
    )
    app.state.has_fim = components.has_fim
    app.state.chat_template = components.chat_template
    app.state.context_length = components.context_length
    app.state.created = int(time.time())
    app.state.job_service = job_service
    app.state.engine_ready = components.engine.ready


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

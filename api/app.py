"""The application: settings in, FastAPI out. Nothing is global, so tests make as many as they like."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from api import error_pages
from api.completion import Completer
from api.dialects import copilot, gitlab, gitlab_v3, llamacpp, llamacpp_info, openai
from api.edge.assembly import Edge
from api.engine.base import Engine
from api.engine.channel import Servers
from api.engine.openai import OpenAIEngine
from api.engine.triton import TritonEngine
from api.gateway import Gateway
from api.model_names import ModelNames
from api.settings import COMMON_ALIASES, Settings
from api.text.fim import FimTemplate
from api.text.prompt import PromptBuilder
from api.text.tokenizer import Tokenizer


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Return the gateway; ``engine`` replaces the one that the settings describe.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """
    tokenizer = Tokenizer.load(_model_dir(settings))
    context = settings.context_length or tokenizer.context_length
    settings = settings.model_copy(update={"context_length": context})
    if engine is None:
        engine = _engine(settings, tokenizer)
    edge = Edge(settings)
    app = FastAPI(
        title="assist",
        docs_url=settings.docs_url,
        openapi_url=settings.openapi_url,
        redoc_url=settings.redoc_url,
        lifespan=_lifespan(edge, engine),
    )
    _set_state(app, settings, engine, tokenizer, edge)
    for dialect in (openai, copilot, gitlab, gitlab_v3, llamacpp, llamacpp_info):
        app.include_router(dialect.router)
    error_pages.install(app, gitlab=settings.auth_mode == "gitlab")
    edge.install(app, engine.ready)
    return app


def _model_dir(settings: Settings) -> Path:
    if settings.model_dir is None:
        raise ValueError("ASSIST_MODEL_DIR is not set. It is the model's folder with tokenizer.json in it.")
    return settings.model_dir


def _engine(settings: Settings, tokenizer: Tokenizer) -> Engine:
    """Return the engine that the settings name."""
    if settings.engine == "openai":
        return OpenAIEngine(settings.engine_url or "", settings.model, settings.engine_key)
    return TritonEngine(
        Servers(settings.triton_address, settings.drained_file, settings.deadline_s),
        tokenizer.eos_id,
        settings.triton_model,
        settings.triton_stream_model,
        settings.connect_s,
        settings.hold_s,
    )


def _set_state(app: FastAPI, settings: Settings, engine: Engine, tokenizer: Tokenizer, edge: Edge) -> None:
    """Build the pipeline and put on the app what the dialects ask for."""
    context = settings.context_length or tokenizer.context_length
    fim = FimTemplate.parse(settings.fim_template) if settings.fim_template else None
    builder = PromptBuilder(tokenizer, fim, context, truncate=settings.truncate and not settings.strict)
    completer = Completer(engine, tokenizer, builder, fim.stop if fim else ())
    app.state.gateway = Gateway(settings, completer, edge.admission, edge.metrics)
    app.state.model_names = ModelNames(
        settings.model, (*COMMON_ALIASES, *settings.model_aliases), any_name=settings.unknown_model == "alias"
    )
    app.state.has_fim = fim is not None
    app.state.context_length = context
    app.state.created = int(time.time())


def _lifespan(edge: Edge, engine: Engine) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with edge.running():
            try:
                yield
            finally:
                await engine.close()

    return lifespan

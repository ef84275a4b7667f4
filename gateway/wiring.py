"""Composition root of completing and scoring, for gateway and worker: tokenizer, engine and completer."""

import logging
from dataclasses import dataclass
from pathlib import Path

from gateway.completion.completer import Completer
from gateway.engine.base import Engine
from gateway.engine.channel import Servers
from gateway.engine.openai import OpenAIEngine
from gateway.engine.triton import TritonEngine
from gateway.settings import Settings
from gateway.text.chat import ChatTemplate
from gateway.text.fim import FimTemplate
from gateway.text.loading import load_tokenizer
from gateway.text.prompt import PromptBuilder
from gateway.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Components:
    """What completes and scores, with the settings completed by the model's own context length."""

    settings: Settings
    tokenizer: Tokenizer
    engine: Engine
    completer: Completer
    has_fim: bool
    context_length: int
    chat_template: ChatTemplate | None


def build(settings: Settings, engine: Engine | None = None) -> Components:
    """Return the components; ``engine`` is used instead of the one that the settings describe.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """
    tokenizer = load_tokenizer(_model_dir(settings))
    context = settings.context_length or tokenizer.context_length
    settings = settings.model_copy(update={"context_length": context})
    if engine is None:
        engine = _engine(settings, tokenizer)
    fim = _fim(settings, tokenizer)
    truncate = settings.truncate and not settings.strict
    chat = _chat(tokenizer)
    builder = PromptBuilder(tokenizer, fim, context, truncate=truncate, chat=chat)
    completer = Completer(engine, tokenizer, builder, fim.stop if fim else ())
    return Components(settings, tokenizer, engine, completer, fim is not None, context, chat)


def _fim(settings: Settings, tokenizer: Tokenizer) -> FimTemplate | None:
    """Return how the model fills in the middle, by the settings or else by its file; ``None``: not at all."""
    if settings.fim_template == "none":
        return None
    return FimTemplate.parse(settings.fim_template) if settings.fim_template else tokenizer.fim_template()


def _chat(tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the model's chat template; an unreadable one is logged, and the model then cannot chat."""
    if not tokenizer.chat_template:
        return None
    try:
        return ChatTemplate(tokenizer.chat_template, tokenizer.chat_tokens, tokenizer)
    except ValueError as error:
        _log.warning("The model can't chat: %s", error)
        return None


def _model_dir(settings: Settings) -> Path:
    if settings.model_dir is None:
        raise ValueError(
            "ASSIST_MODEL_DIR is not set. Set it to the model's folder, with tokenizer.json or a GGUF file."
        )
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
        settings.connect_timeout_s,
        settings.engine_wait_s,
    )

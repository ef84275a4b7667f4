"""From settings to what completes and scores: tokenizer, engine and the way between."""

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
from gateway.text.model_files import ModelFiles
from gateway.text.prompt import PromptBuilder
from gateway.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Components:
    """The parts, and the settings with the model's own context length where none was set."""

    settings: Settings
    tokenizer: Tokenizer
    engine: Engine
    completer: Completer
    has_fim: bool
    context_length: int


def build(settings: Settings, engine: Engine | None = None) -> Components:
    """Return the pipeline; ``engine`` replaces the one that the settings describe.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """
    files = ModelFiles.read(_model_dir(settings))
    tokenizer = Tokenizer(files)
    context = settings.context_length or tokenizer.context_length
    settings = settings.model_copy(update={"context_length": context})
    if engine is None:
        engine = _engine(settings, tokenizer)
    fim = FimTemplate.parse(settings.fim_template) if settings.fim_template else None
    may_cut = settings.truncate and not settings.strict
    builder = PromptBuilder(tokenizer, fim, context, truncate=may_cut, chat=_chat(files, tokenizer))
    completer = Completer(engine, tokenizer, builder, fim.stop if fim else ())
    return Components(settings, tokenizer, engine, completer, fim is not None, context)


def _chat(files: ModelFiles, tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the model's chat template; one that can't be read only keeps it from chatting, and is logged."""
    if not files.chat_template:
        return None
    try:
        return ChatTemplate(files.chat_template, files.chat_tokens, tokenizer)
    except ValueError as error:
        _log.warning("The model can't chat: %s", error)
        return None


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

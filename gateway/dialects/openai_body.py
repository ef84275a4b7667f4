"""The body of OpenAI's completions endpoint, and its conversion to a ``CompletionRequest``."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gateway.body import Body, Int
from gateway.completion.types import CompletionRequest
from gateway.dialects.deps import prompts_of, stops_of
from gateway.dialects.sampling_body import (
    SamplingBody,
    check,
    check_choices,
    max_tokens,
    sampling_of,
    unsupported,
)
from gateway.errors import invalid
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.text.prompt import Prompt, no_fim


class Segments(Body):
    """Tabby's own completion body: the text before and after the cursor."""

    prefix: str = ""
    suffix: str | None = None


class CompletionBody(SamplingBody):
    """Completion-only fields."""

    prompt: Any = None
    suffix: str | None = None
    segments: Segments | None = None
    best_of: Annotated[Int | None, Field(ge=0)] = None
    logprobs: Annotated[Int | None, Field(ge=0)] = None
    echo: bool = False
    truncate_prompt_tokens: Annotated[Int | None, Field(ge=-1)] = None
    truncation_side: Annotated[str, Field(pattern="^(left|right)$")] = "left"
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    response_format: dict[str, Any] | None = None


def to_request(
    body: CompletionBody, settings: Settings, metrics: Metrics, *, legacy: bool, has_fim: bool
) -> CompletionRequest:
    """Return the request; ``legacy``: as FauxPilot on its engine routes, without echo and ``best_of``.

    Raises ``ApiError`` 400 for what cannot be done, such as a suffix for a model that cannot use it. The
    clients of FauxPilot and Tabby send one whatever the model: there it is ignored.
    """
    if body.response_format and body.response_format.get("type", "text") != "text":
        raise unsupported("response_format")
    ignored = _ignored_suffix(body, legacy=legacy, has_fim=has_fim)
    check(body, settings, metrics, ignored)
    prompts = [_complete_prompt(prompt, body, settings) for prompt in _prompts(body, settings)]
    if ignored:
        prompts = [replace(prompt, suffix=None) for prompt in prompts]
    best_of = None if legacy else _best_of(body, settings)
    check_choices(body, len(prompts), max(body.n, best_of or 0), settings)
    if body.logprobs is not None and body.logprobs > settings.max_logprobs:
        raise invalid(f"logprobs may be at most {settings.max_logprobs}.", "logprobs")
    return CompletionRequest(
        prompts=prompts,
        max_tokens=max_tokens(body.max_tokens, settings),
        sampling=sampling_of(body, settings),
        n=body.n,
        best_of=best_of,
        stops=stops_of(body.stop, settings),
        seed=body.seed,
        echo=body.echo and not legacy,
        # FauxPilot's legacy routes take 0 for "none", as its one CI test does.
        logprobs=None if legacy and not body.logprobs else body.logprobs,
        model=body.model,
        ignored=ignored,
        token_ids=body.return_token_ids,
        dialect="fauxpilot" if legacy else "openai",
    )


def _ignored_suffix(body: CompletionBody, *, legacy: bool, has_fim: bool) -> list[str]:
    """Return ``suffix`` in a list where it is ignored. Raises 400 where it would be used but cannot be."""
    suffix = body.segments.suffix if body.segments else body.suffix
    if not suffix or has_fim:
        return []
    if legacy or body.segments:
        return ["suffix"]
    raise no_fim("suffix")


def _prompts(body: CompletionBody, settings: Settings) -> list[Prompt]:
    if body.segments is not None:
        return [Prompt(text=body.segments.prefix, suffix=body.segments.suffix)]
    if body.prompt is None:
        raise invalid("prompt is missing. Send the text before the cursor.", "prompt")
    return prompts_of(body.prompt, settings)


def _complete_prompt(prompt: Prompt, body: CompletionBody, settings: Settings) -> Prompt:
    """Return the prompt with the body's suffix and explicit truncation."""
    keep = body.truncate_prompt_tokens
    limit = settings.context_length
    if keep is not None and limit is not None and keep > limit:
        raise invalid(f"truncate_prompt_tokens may be at most {limit}.", "truncate_prompt_tokens")
    return Prompt(
        prompt.text, prompt.ids, suffix=body.suffix if prompt.suffix is None else prompt.suffix,
        keep=keep if keep and keep > 0 else None, cut_left=body.truncation_side == "left",
    )  # fmt: skip


def _best_of(body: CompletionBody, settings: Settings) -> int | None:
    """Return ``best_of``, or ``None`` where it is 0 or not given, as in OpenAI's client tests."""
    if not body.best_of:
        return None
    if body.best_of < body.n:
        raise invalid(f"best_of ({body.best_of}) must be at least n ({body.n}).", "best_of")
    if body.best_of > settings.max_n:
        raise invalid(f"best_of may be at most {settings.max_n}.", "best_of")
    if body.stream and body.best_of > body.n:
        raise invalid("best_of must equal n when stream is true.", "best_of")
    return body.best_of

"""The body of OpenAI's completions endpoint, and what is made of it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from api.body import Body, Float, Int
from api.dialects.shared import check_rows, prompts_of, stops_of
from api.edge.metrics import Metrics
from api.engine.base import Sampling
from api.errors import ApiError, invalid
from api.plan import CompletionRequest
from api.settings import Settings
from api.text.prompt import Prompt

_INT64 = 2**63
_MAX_BIAS = 100.0
_PROMISES = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "allowed_token_ids", "prompt_logprobs", "prompt_embeds", "use_beam_search",
)  # fmt: skip


class StreamOptions(Body):
    """``include_usage`` asks for a last chunk with the usage.

    With vLLM's ``continuous_usage_stats`` every chunk has it. OpenAI's obfuscation has no effect.
    """

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False
    include_obfuscation: bool | None = False


class Segments(Body):
    """Tabby's own completion body: what stands before and after the cursor."""

    prefix: str = ""
    suffix: str | None = None


class CompletionBody(Body):
    """Fields of OpenAI's specification, and vLLM's extensions where they are simple."""

    model: str | None = None
    prompt: Any = None
    suffix: str | None = None
    segments: Segments | None = None
    max_tokens: Annotated[Int | None, Field(ge=0)] = None
    temperature: Annotated[Float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[Float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[Int, Field(ge=-1)] = 0
    repetition_penalty: Annotated[Float, Field(gt=0, le=10)] = 1.0
    n: Annotated[Int, Field(ge=1)] = 1
    best_of: Annotated[Int | None, Field(ge=0)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[Int | None, Field(ge=0)] = None
    echo: bool = False
    stop: str | list[str] | None = None
    frequency_penalty: Annotated[Float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[Float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[str, Float] | None = None
    seed: Annotated[Int | None, Field(ge=-_INT64, lt=_INT64)] = None
    truncate_prompt_tokens: Annotated[Int | None, Field(ge=-1)] = None
    truncation_side: Annotated[str, Field(pattern="^(left|right)$")] = "left"
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    min_tokens: Annotated[Int, Field(ge=0)] = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[Int, ...] = ()
    include_stop_str_in_output: bool = False
    prompt_logprobs: Annotated[Int | None, Field(ge=-1)] = None
    use_beam_search: bool = False
    allowed_token_ids: list[Int] | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    prompt_embeds: Any = None

    @field_validator("logit_bias")
    @classmethod
    def _check_bias(cls, bias: Mapping[str, float] | None) -> Mapping[str, float] | None:
        """Check keys and values; OpenAI's own client test sends ``{"foo": 0}``, which asks for nothing."""
        for key, value in (bias or {}).items():
            if not abs(value) <= _MAX_BIAS:
                raise ValueError("values must be from -100 to 100")
            if value and not (key.isascii() and key.isdigit()):
                raise ValueError("keys must be token ids")
        return bias


def to_request(
    body: CompletionBody, settings: Settings, metrics: Metrics, *, legacy: bool, has_fim: bool
) -> CompletionRequest:
    """Return the request; ``legacy`` is FauxPilot's meaning on its engine routes: no echo, no ``best_of``."""
    _check_stream(body)
    _check_promises(body)
    _note_ignored(body, settings, metrics, has_fim=has_fim)
    prompts = [_shaped(prompt, body, settings) for prompt in _prompts(body, settings)]
    best_of = None if legacy else _best_of(body, settings)
    check_rows(len(prompts), max(body.n, best_of or 0), settings)
    if body.n > settings.max_n:
        raise invalid(f"n may be at most {settings.max_n}.", "n")
    if body.logprobs is not None and body.logprobs > settings.max_logprobs:
        raise invalid(f"logprobs may be at most {settings.max_logprobs}.", "logprobs")
    return CompletionRequest(
        prompts=prompts,
        max_tokens=max_tokens(body.max_tokens, settings),
        sampling=Sampling(
            settings.default_temperature if body.temperature is None else body.temperature,
            body.top_p,
            max(0, min(body.top_k, 2**31 - 1)),
            body.repetition_penalty,
        ),
        n=body.n,
        best_of=best_of,
        stops=stops_of(body.stop, settings),
        seed=body.seed,
        echo=body.echo and not legacy,
        # FauxPilot's legacy routes take 0 for "none", as its one CI test does.
        logprobs=None if legacy and not body.logprobs else body.logprobs,
        model=body.model,
    )


def max_tokens(asked: int | None, settings: Settings) -> int:
    """Return how many tokens to make: the default, or what was asked, clamped to the cap unless strict."""
    if asked is None:
        return min(settings.default_max_tokens, settings.max_tokens_cap)
    if asked > settings.max_tokens_cap and settings.strict:
        raise invalid(f"max_tokens may be at most {settings.max_tokens_cap}.", "max_tokens")
    return min(asked, settings.max_tokens_cap)


def _prompts(body: CompletionBody, settings: Settings) -> list[Prompt]:
    if body.segments is not None:
        return [Prompt(text=body.segments.prefix, suffix=body.segments.suffix)]
    if body.prompt is None:
        raise invalid("prompt is missing. Send the text before the cursor.", "prompt")
    return prompts_of(body.prompt, settings)


def _shaped(prompt: Prompt, body: CompletionBody, settings: Settings) -> Prompt:
    """Add suffix and explicit truncation to a prompt."""
    keep = body.truncate_prompt_tokens
    limit = settings.context_length
    if keep is not None and limit is not None and keep > limit:
        raise invalid(f"truncate_prompt_tokens may be at most {limit}.", "truncate_prompt_tokens")
    return Prompt(
        prompt.text, prompt.ids, suffix=body.suffix if prompt.suffix is None else prompt.suffix,
        keep=keep if keep and keep > 0 else None, cut_left=body.truncation_side == "left",
    )  # fmt: skip


def _check_stream(body: CompletionBody) -> None:
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options needs stream: true.", "stream_options")


def _check_promises(body: CompletionBody) -> None:
    """Refuse what cannot be done and would be missed: text without the asked structure is no answer to it."""
    for name in _PROMISES:
        if getattr(body, name) not in (None, False):
            raise _unsupported(name)
    if body.response_format and body.response_format.get("type", "text") != "text":
        raise _unsupported("response_format")
    if body.max_tokens is not None and body.min_tokens > body.max_tokens:
        raise invalid("min_tokens may not be larger than max_tokens.", "min_tokens")


def _best_of(body: CompletionBody, settings: Settings) -> int | None:
    """Return ``best_of`` where it asks for more than ``n``.

    0 counts as not given, as in OpenAI's client tests.
    """
    if not body.best_of:
        return None
    if body.best_of < body.n:
        raise invalid(f"best_of ({body.best_of}) must be at least n ({body.n}).", "best_of")
    if body.best_of > settings.max_n:
        raise invalid(f"best_of may be at most {settings.max_n}.", "best_of")
    if body.stream and body.best_of > body.n:
        raise invalid("A stream cannot be chosen from several: best_of must equal n with stream.", "best_of")
    return body.best_of


def _note_ignored(body: CompletionBody, settings: Settings, metrics: Metrics, *, has_fim: bool) -> None:
    """Count what FasterTransformer's interface cannot do; strict settings refuse it instead.

    ``frequency_penalty`` is never sent as ``repetition_penalty``: OpenAI's default 0 would divide logits by
    zero.
    """
    asked = {
        "frequency_penalty": body.frequency_penalty not in (0.0, 1.0),
        "presence_penalty": bool(body.presence_penalty),
        "logit_bias": any((body.logit_bias or {}).values()),
        "suffix": bool(body.suffix) and not has_fim,
        "min_tokens": bool(body.min_tokens),
        "ignore_eos": body.ignore_eos,
        "stop_token_ids": bool(body.stop_token_ids),
        "include_stop_str_in_output": body.include_stop_str_in_output,
    }
    for name, given in asked.items():
        if given and settings.strict:
            raise _unsupported(name)
        if given:
            metrics.ignored(name)


def _unsupported(name: str) -> ApiError:
    return invalid(f"{name} is not supported by this model server.", name, "unsupported_parameter")

"""Fields of both OpenAI's completions and chats: sampling, and parameters that are refused or ignored."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from gateway.body import Body, Float, Int
from gateway.dialects.deps import check_rows
from gateway.engine.base import Sampling
from gateway.errors import ApiError, invalid
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

_INT64 = 2**63
_MAX_BIAS = 100.0
# A request with one of these is refused: text without the requested structure does not answer it.
_UNSUPPORTED = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "allowed_token_ids", "prompt_logprobs", "prompt_embeds", "use_beam_search",
)  # fmt: skip


class StreamOptions(Body):
    """``include_usage`` adds a last chunk with the usage, vLLM's ``continuous_usage_stats`` adds it to each.

    OpenAI's obfuscation has no effect.
    """

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False
    include_obfuscation: bool | None = False


class SamplingBody(Body):
    """Fields of OpenAI's specification, and vLLM's extensions where they are simple."""

    model: str | None = None
    max_tokens: Annotated[Int | None, Field(ge=0)] = None
    temperature: Annotated[Float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[Float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[Int, Field(ge=-1)] = 0
    repetition_penalty: Annotated[Float, Field(gt=0, le=10)] = 1.0
    n: Annotated[Int, Field(ge=1)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    frequency_penalty: Annotated[Float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[Float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[str, Float] | None = None
    seed: Annotated[Int | None, Field(ge=-_INT64, lt=_INT64)] = None
    min_tokens: Annotated[Int, Field(ge=0)] = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[Int, ...] = ()
    include_stop_str_in_output: bool = False
    prompt_logprobs: Annotated[Int | None, Field(ge=-1)] = None
    use_beam_search: bool = False
    allowed_token_ids: list[Int] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    prompt_embeds: Any = None

    @field_validator("logit_bias")
    @classmethod
    def _check_bias(cls, bias: Mapping[str, float] | None) -> Mapping[str, float] | None:
        """Check keys and values; OpenAI's own client test sends ``{"foo": 0}``, which changes nothing."""
        for key, value in (bias or {}).items():
            if not abs(value) <= _MAX_BIAS:
                raise ValueError("values must be from -100 to 100")
            if value and not (key.isascii() and key.isdigit()):
                raise ValueError("keys must be token ids")
        return bias


def check(body: SamplingBody, settings: Settings, metrics: Metrics, also: Iterable[str] = ()) -> None:
    """Count parameters that have no effect, ``also`` among them.

    Raises ``ApiError`` 400 for unsupported parameters, and in strict mode for those without effect.
    """
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options needs stream: true.", "stream_options")
    for name in _UNSUPPORTED:
        if getattr(body, name) not in (None, False):
            raise unsupported(name)
    if body.max_tokens is not None and body.min_tokens > body.max_tokens:
        raise invalid("min_tokens may not be larger than max_tokens.", "min_tokens")
    for name in (*_ignored(body), *also):
        if settings.strict:
            raise unsupported(name)
        metrics.ignored(name)


def check_choices(body: SamplingBody, prompts: int, rows: int, settings: Settings) -> None:
    """Raise 400 when a request asks for more choices than one prompt, or one request, may have."""
    check_rows(prompts, rows, settings)
    if body.n > settings.max_n:
        raise invalid(f"n may be at most {settings.max_n}.", "n")


def sampling_of(body: SamplingBody, settings: Settings) -> Sampling:
    """Return how the next token is chosen."""
    return Sampling(
        settings.default_temperature if body.temperature is None else body.temperature,
        body.top_p,
        max(0, min(body.top_k, 2**31 - 1)),
        body.repetition_penalty,
    )


def max_tokens(requested: int | None, settings: Settings) -> int:
    """Return how many tokens to generate at most: the requested number or the default, limited to the cap.

    Raises ``ApiError`` 400 for a larger number in strict mode.
    """
    if requested is None:
        return min(settings.default_max_tokens, settings.max_tokens_cap)
    if requested > settings.max_tokens_cap and settings.strict:
        raise invalid(f"max_tokens may be at most {settings.max_tokens_cap}.", "max_tokens")
    return min(requested, settings.max_tokens_cap)


def _ignored(body: SamplingBody) -> list[str]:
    """Return the given parameters that FasterTransformer's interface has no place for.

    ``frequency_penalty`` is never sent as ``repetition_penalty``: OpenAI's default 0 would divide logits by
    zero.
    """
    given = {
        "frequency_penalty": body.frequency_penalty not in (0.0, 1.0),
        "presence_penalty": bool(body.presence_penalty),
        "logit_bias": any((body.logit_bias or {}).values()),
        "min_tokens": bool(body.min_tokens),
        "ignore_eos": body.ignore_eos,
        "stop_token_ids": bool(body.stop_token_ids),
        "include_stop_str_in_output": body.include_stop_str_in_output,
    }
    return [name for name, is_given in given.items() if is_given]


def unsupported(name: str) -> ApiError:
    """Return a 400 that names the unsupported parameter."""
    return invalid(f"{name} is not supported by this model server.", name, "unsupported_parameter")

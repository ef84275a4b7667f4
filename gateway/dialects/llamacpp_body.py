"""llama.cpp's request bodies, and their conversion to a ``CompletionRequest``."""

from typing import Annotated, Any

from pydantic import Field, StrictStr

from gateway.body import Body, Float, Int
from gateway.completion.types import CompletionRequest
from gateway.dialects.deps import check_rows, ids_prompt, stops_of
from gateway.dialects.sampling_body import max_tokens
from gateway.engine.base import Sampling
from gateway.errors import invalid
from gateway.settings import Settings
from gateway.text.prompt import Prompt

_INT64 = 2**63
# llama.cpp generates without limit by default; an editor that gives no number gets this many tokens.
DEFAULT_PREDICT = 128


class ExtraFile(Body):
    """Another file as context. The types are strict: llama.cpp refuses numbers for names and texts."""

    filename: StrictStr = "tmp"
    text: StrictStr


class NativeBody(Body):
    """Fields of both ``/completion`` and ``/infill``; samplers that the engine lacks are ignored."""

    n_predict: Annotated[Int | None, Field(ge=-2)] = None
    max_tokens: Annotated[Int | None, Field(ge=-2)] = None
    temperature: Annotated[Float, Field(ge=0)] = 0.8
    top_k: Annotated[Int, Field(ge=-1)] = 40
    top_p: Annotated[Float, Field(ge=0)] = 0.95
    repeat_penalty: Annotated[Float, Field(ge=0, le=10)] = 1.0
    seed: Annotated[Int | None, Field(ge=-_INT64, lt=2**64)] = None
    stop: str | list[str] | None = None
    stream: bool = False
    n_probs: Annotated[Int, Field(ge=0)] = 0
    return_tokens: bool = False
    t_max_predict_ms: Float | None = None
    response_fields: list[str] | None = None
    model: str | None = None

    @property
    def token_limit(self) -> int | None:
        """How many tokens at most: ``None`` means the default, llama.cpp's -1 and -2 no limit."""
        return self.n_predict if self.n_predict is not None else self.max_tokens


class NativeCompletionBody(NativeBody):
    """The body of ``/completion``."""

    prompt: Any = None


class InfillBody(NativeBody):
    """The body of ``/infill``: text before and after the cursor, and the current line up to the cursor."""

    input_prefix: StrictStr
    input_suffix: StrictStr
    input_extra: tuple[ExtraFile, ...] = ()
    prompt: StrictStr = ""
    n_indent: Annotated[Int, Field(ge=0)] = 0


def prompts_of(value: Any, settings: Settings) -> tuple[list[Prompt], bool]:  # noqa: ANN401  -- whatever JSON holds
    """Return llama.cpp's prompts, and whether the client sent a list of them.

    A list that holds a number is one prompt of ids and text mixed; any other list is several prompts. Raises
    400 for anything else, and for more than ``max_prompts``.
    """
    if isinstance(value, list) and value and not any(type(item) is int for item in value):
        if len(value) > settings.max_prompts:
            raise invalid(f"At most {settings.max_prompts} prompts fit in one request.", "prompt")
        return [_one(item) for item in value], True
    return [_one(value)], False


def _one(value: Any) -> Prompt:  # noqa: ANN401  -- whatever JSON holds
    if isinstance(value, str):
        return Prompt(text=value)
    if not isinstance(value, list) or not value:
        raise invalid("prompt must be a string, token ids, or a list of these, and not empty.", "prompt")
    if not any(isinstance(item, str) for item in value):
        return ids_prompt(value)
    if not all(isinstance(item, str) or type(item) is int for item in value):
        raise invalid("A prompt may mix text and token ids only.", "prompt")
    return Prompt(parts=value)


def to_request(body: NativeBody, prompts: list[Prompt], settings: Settings) -> CompletionRequest:
    """Return the completion request; raises 400 where it is over a limit."""
    check_rows(len(prompts), 1, settings)
    limit = body.token_limit
    budget = body.t_max_predict_ms
    return CompletionRequest(
        prompts=prompts,
        max_tokens=max_tokens(DEFAULT_PREDICT if limit is None or limit < 0 else limit, settings),
        sampling=Sampling(
            min(body.temperature, 2.0),
            min(body.top_p, 1.0),
            max(0, min(body.top_k, 2**31 - 1)),
            body.repeat_penalty or 1.0,
        ),
        stops=stops_of(body.stop, settings),
        seed=None if body.seed in (None, -1, 2**32 - 1) else body.seed,
        logprobs=0 if body.n_probs or body.return_tokens else None,
        model=body.model,
        time_budget_s=budget / 1000 if budget and budget > 0 else None,
        dialect="llamacpp",
    )

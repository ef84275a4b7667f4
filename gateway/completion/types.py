"""A completion's data: what the client requested, what the engine gets, and what came out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.engine.base import Constraint, GenerateRequest, Sampling
from gateway.text.output_sequence import Delta, FinishReason, TokenEntry
from gateway.text.prompt import BuiltPrompt, Prompt

Dialect = Literal["openai", "mistral", "fauxpilot", "gitlab", "llamacpp"]
Kind = Literal["completion", "infill", "generation", "chat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A client's request in any dialect. Times are in seconds; ``logprobs`` None means none.

    ``best_of`` rows are generated per prompt, and the ``n`` with the highest mean log probability returned.
    ``ignored`` are parameters without effect, which the response's header names. ``token_ids``: the answer's
    ids are wanted beside its text. ``shown`` are the control tokens that are in the answer's text, with their
    ids. ``generation``: a larger piece of code is wanted.
    """

    prompts: Sequence[Prompt]
    max_tokens: int
    sampling: Sampling
    n: int = 1
    best_of: int | None = None
    stops: Sequence[str] = ()
    seed: int | None = None
    echo: bool = False
    logprobs: int | None = None
    model: str | None = None
    time_budget_s: float | None = None
    ignored: Sequence[str] = ()
    constraint: Constraint | None = None
    token_ids: bool = False
    shown: Mapping[str, int] = field(default_factory=dict)
    dialect: Dialect = "openai"
    generation: bool = False

    @property
    def kind(self) -> Kind:
        """What is wanted: a text to go on with, a gap to fill, a larger piece of code, or a chat."""
        prompt = self.prompts[0]
        if self.generation:
            return "generation"
        if prompt.messages:
            return "chat"
        return "infill" if prompt.suffix else "completion"

    @property
    def rows(self) -> int:
        """How many rows each prompt needs."""
        return max(self.n, self.best_of or 0)


@dataclass(slots=True)
class Choice:
    """One completion of one prompt. ``expired``: it ended because the request's time was up."""

    index: int
    text: str = ""
    entries: list[TokenEntry] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop: str | None = None
    tokens: int = 0
    logprob_sum: float = 0.0
    expired: bool = False

    def add(self, delta: Delta) -> None:
        """Append a delta."""
        self.text += delta.text
        self.entries += delta.entries
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop = delta.stop or self.stop
        self.tokens += delta.tokens
        self.logprob_sum += delta.logprob_sum
        self.expired = self.expired or delta.expired


@dataclass(frozen=True, slots=True)
class Echo:
    """What precedes a completion: its length in characters, and its text and tokens where requested."""

    length: int
    text: str = ""
    entries: Sequence[TokenEntry] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A request made ready for the engine: for each prompt its ids, its echo and its engine request.

    ``ends_at``: the request's deadline on ``time.monotonic``, for all its prompts together.
    """

    request: CompletionRequest
    prompts: Sequence[BuiltPrompt]
    engine_requests: Sequence[GenerateRequest]
    echoes: Sequence[Echo]
    ends_at: float

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline; 0 past it."""
        return max(0.0, self.ends_at - time.monotonic())

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens, each prompt counted once however many rows it has."""
        return sum(len(prompt.ids) for prompt in self.prompts)

    @property
    def truncated(self) -> bool:
        """Whether any prompt was cut."""
        return any(prompt.truncated for prompt in self.prompts)

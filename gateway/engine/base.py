"""The seam between the gateway and whatever generates tokens.

The gateway tokenises, the engine continues token ids, the gateway turns ids into text. Nothing in front of
this seam knows Triton; nothing behind it knows HTTP dialects.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 means greedy; ``top_k`` 0 means no limit."""

    temperature: float = 0.6
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One prompt to continue ``n`` times.

    ``stop_ids`` are token sequences that let the engine stop early; the text is cut by the gateway all the
    same, because a stop string can be tokenised in more than one way. ``deadline_s`` is in seconds from
    now. ``seeds`` holds one seed per row; ``seeded`` says that the caller asked for them, so they must
    reproduce. ``stops`` are the stop strings as text, for engines that match text themselves. ``model`` is
    the name by which the caller asked for another model of the same engine (FauxPilot's ``py-model``);
    engines without it use their own.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    seeds: Sequence[int]
    n: int = 1
    stop_ids: Sequence[Sequence[int]] = ()
    logprobs: bool = False
    seeded: bool = False
    deadline_s: float = 30.0
    request_id: str = ""
    traceparent: str | None = None
    stops: Sequence[str] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """New tokens of one row, in order. ``logprobs`` is parallel to ``ids`` or empty; ``final`` ends the row.

    An engine that decodes by itself (any OpenAI-compatible server) sets ``text`` and ``count`` instead of
    ``ids``, and the ``finish_reason`` it was given.
    """

    row: int
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = field(default_factory=tuple)
    final: bool = False
    text: str | None = None
    count: int = 0
    finish_reason: Literal["stop", "length"] | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A text whose tokens from ``start`` on are scored, given all before them.

    ``start`` is at least 1: nothing stands before the first token. ``deadline_s`` is in seconds from now.
    """

    ids: Sequence[int]
    start: int = 1
    deadline_s: float = 30.0
    request_id: str = ""
    traceparent: str | None = None


class Engine(Protocol):
    """What the gateway needs of a backend.

    Every method raises ``ApiError`` (502, 503, 504; 400 for what the engine cannot do) and nothing else.
    """

    def stream(self, job: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        """Yield tokens as they are made, rows interleaved. Closing the iterator cancels the work upstream."""
        ...

    async def complete(self, job: GenerateRequest) -> list[TokenChunk]:
        """Return one ``TokenChunk`` per row, in row order.

        Cancelling the awaiting task cancels the work upstream.
        """
        ...

    async def score(self, job: ScoreRequest) -> list[float]:
        """Return the natural logarithm of each token's probability, one for each token from ``start`` on."""
        ...

    async def ready(self) -> bool:
        """Say whether the model answers now; bounded to one second, never raises."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

"""The seam between the gateway and whatever generates tokens.

The gateway tokenises, the engine continues token ids, the gateway turns ids into text. Nothing in front of
this seam knows Triton; nothing behind it knows HTTP dialects.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
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
class Constraint:
    """What the generated text has to be.

    ``grammar`` is llguidance's variant of Lark, with ``%llguidance`` in its first line. ``schema`` is a JSON
    schema as text where the whole text is one JSON value, for engines that take no grammar; ``None``
    otherwise. Without ``required``, such an engine may generate what it likes. ``param`` is the field of the
    client's request that it comes from. ``sample`` is what to compile to find out whether the grammar can be
    enforced, where ``grammar`` names tokens by the ids of one vocabulary.
    """

    grammar: str
    schema: str | None = None
    required: bool = True
    param: str = ""
    sample: str | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One prompt to continue ``n`` times.

    ``stop_ids`` are token sequences that let the engine stop early; the gateway cuts the text all the same,
    because a stop string can be tokenised in more than one way. ``stops`` are the stop strings as text, for
    engines that match text themselves. ``seeds`` holds one seed per row; ``seeded`` means that the caller
    chose them, so they must reproduce. ``deadline_s`` is in seconds from now. ``model`` is the name by which
    the caller selected another model of the same engine (FauxPilot's ``py-model``); engines without such a
    model use their own. ``shown`` are the control tokens, by their text, that are wanted in the text of
    engines that decode by themselves. ``caller``: whose earlier requests may have left a cache for this one.
    ``on_tokens`` is called with the number of new tokens while a whole answer is generated, so that it is
    known when the answer is cancelled.
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
    constraint: Constraint | None = None
    shown: Mapping[str, int] = field(default_factory=dict)
    caller: str | None = None
    on_tokens: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """New tokens of one row, in order. ``logprobs`` is parallel to ``ids`` or empty; ``final`` ends the row.

    An engine that decodes by itself (any OpenAI-compatible server) sets ``text`` and ``count``, the number of
    tokens, instead of ``ids``, and the server's ``finish_reason``. ``expired``: the row ends here because the
    request's time is up.
    """

    row: int
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = field(default_factory=tuple)
    final: bool = False
    text: str | None = None
    count: int = 0
    finish_reason: Literal["stop", "length"] | None = None
    expired: bool = False


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
    """A backend that generates tokens; implementations are ``TritonEngine`` and ``OpenAIEngine``.

    Every method raises ``ApiError`` and nothing else: 400 for what the engine cannot do, 502 for an invalid
    response, 503 when the engine is down or full, 504 when it did nothing within the request's
    ``deadline_s``. An implementation is used from one event loop, by many requests at once.

    Shortly before the deadline the work is stopped, and every unfinished row ends ``expired``.
    """

    def stream(self, request: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        """Yield tokens as they are generated; closing the iterator cancels the work upstream.

        Args:
            request: the prompt and how to continue it.

        Yields:
            Chunks of the request's ``n`` rows, interleaved; each row's last one is ``final``.
        """
        ...

    async def complete(self, request: GenerateRequest) -> list[TokenChunk]:
        """Return all tokens of all rows; cancelling the awaiting task cancels the work upstream.

        Args:
            request: the prompt and how to continue it.

        Returns:
            One ``TokenChunk`` per row, in row order.
        """
        ...

    async def score(self, request: ScoreRequest) -> list[float]:
        """Return how probable the model finds a text.

        Args:
            request: the text's token ids, and from which of them on to score.

        Returns:
            The natural logarithm of each token's probability, one for each token from ``start`` on.
        """
        ...

    async def ready(self) -> bool:
        """Return whether the model can be used now; takes one second at most and never raises."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

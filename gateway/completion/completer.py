"""The pipeline behind every dialect: a request becomes engine requests, then deltas, then choices.

A whole completion is the sum of the same deltas that a stream sends, so the two cannot disagree.
"""

import codecs
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.completion.types import Choice, CompletionRequest, Echo, Plan
from gateway.engine.base import Engine, GenerateRequest, ScoreRequest
from gateway.errors import deadline
from gateway.merge import merge
from gateway.text import constraint
from gateway.text.output_sequence import Delta, OutputSequence, TokenEntry
from gateway.text.prompt import BuiltPrompt, Prompt, PromptBuilder
from gateway.text.tokenizer import Tokenizer

# FauxPilot draws seeds from 0 to 2^31 - 2.
_SEEDS = 2**31 - 1
_NEWLINES = "\n\n"
# A single token has nothing before it, so it cannot be scored.
_SCORABLE = 2
_NOTHING = (
    "No token was generated within the request's deadline. Send a shorter prompt, or try again when the "
    "service is less busy."
)


class Completer:
    """Plans and runs completions on one engine.

    ``fim_stops`` end the completions of fill-in-the-middle prompts, beside the request's own stop strings.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, builder: PromptBuilder, fim_stops: Sequence[str] = ()
    ) -> None:
        self._engine = engine
        self.tokenizer = tokenizer
        self._builder = builder
        self._fim_stops = tuple(fim_stops)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    async def plan(
        self,
        request: CompletionRequest,
        deadline_s: float,
        request_id: str,
        traceparent: str | None,
        caller: str | None = None,
    ) -> Plan:
        """Tokenise every prompt and fit it into the context.

        ``caller``: whose earlier requests may have left a cache for this one.
        Raises ``ApiError`` 400 for prompts and schemas that cannot be used.
        """
        ends_at = time.monotonic() + deadline_s
        if request.constraint is not None:
            await constraint.verify(request.constraint)
        built = [await self._builder.build(prompt, request.max_tokens) for prompt in request.prompts]
        plain_stops = self._stop_ids(request.stops)
        engine_requests = []
        for prompt in built:
            fim_ids = self._stop_ids(self._fim_stops) if prompt.fim else []
            engine_requests.append(
                GenerateRequest(
                    prompt_ids=prompt.ids,
                    max_tokens=prompt.max_tokens,
                    sampling=request.sampling,
                    seeds=_seeds(request),
                    n=request.rows,
                    stop_ids=plain_stops + fim_ids,
                    logprobs=bool(request.logprobs is not None or request.rows > request.n),
                    seeded=request.seed is not None,
                    request_id=request_id,
                    traceparent=traceparent,
                    stops=self._stops(request, prompt),
                    model=request.model,
                    constraint=request.constraint,
                    shown=request.shown,
                    caller=caller,
                )
            )
        echoes = [self._echo(request, *pair) for pair in zip(request.prompts, built, strict=True)]
        return Plan(request, built, engine_requests, echoes, ends_at)

    def _stops(self, request: CompletionRequest, prompt: BuiltPrompt) -> Sequence[str]:
        return (*request.stops, *(self._fim_stops if prompt.fim else ()))

    def _stop_ids(self, stops: Sequence[str]) -> list[list[int]]:
        """Return the ids of each stop as FauxPilot sends them.

        The blank line gets its other spelling as well: it is one token by itself but often two in a text.
        """
        sequences = []
        for stop in stops:
            ids = self.tokenizer.encode_control(stop)
            if ids:
                sequences.append(ids)
            twice = self.tokenizer.encode_control("\n") * 2 if stop == _NEWLINES else ids
            if twice != ids:
                sequences.append(twice)
        return sequences

    def _echo(self, request: CompletionRequest, prompt: Prompt, built: BuiltPrompt) -> Echo:
        """Return what precedes the completion: the prompt when echoed, and its length for tokens' offsets."""
        if not request.echo and request.logprobs is None:
            return Echo(0)
        verbatim = prompt.text is not None and not built.truncated
        text = (prompt.text or "") if verbatim else self.tokenizer.decode(built.ids)
        if not request.echo:
            return Echo(len(text))
        return Echo(len(text), text, () if request.logprobs is None else self._prompt_entries(built.ids))

    def _prompt_entries(self, ids: Sequence[int]) -> list[TokenEntry]:
        entries, offset, utf8 = [], 0, codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            entries.append(TokenEntry(token, self.tokenizer.decode_one(token), None, offset))
            offset += len(utf8.decode(self.tokenizer.bytes_of(token)))
        return entries

    async def _scored_echo(self, plan: Plan, position: int) -> Echo:
        """Return the echo, with log probabilities where requested; the first token has none."""
        echo, request = plan.echoes[position], plan.engine_requests[position]
        if len(echo.entries) < _SCORABLE:
            return echo
        score = ScoreRequest(request.prompt_ids, 1, plan.remaining_s, request.request_id, request.traceparent)
        values = [None, *await self._engine.score(score)]
        pairs = zip(echo.entries, values, strict=True)
        return replace(echo, entries=[replace(entry, logprob=value) for entry, value in pairs])

    async def run(self, plan: Plan, on_tokens: Callable[[int], None] | None = None) -> list[Choice]:
        """Return the finished choices in index order; cancelling cancels the engine's work.

        ``on_tokens`` is called with the number of new tokens as they are generated. At the deadline the
        choices end with what there is. Raises ``ApiError`` as the engine does, and 504 when the deadline came
        before any token.
        """
        prompts = range(len(plan.engine_requests))
        choices = [Choice(index) for index in range(len(prompts) * plan.request.rows)]
        if plan.request.time_budget_s is not None:
            deltas = self.stream(plan, on_tokens)
        else:
            deltas = merge([self._complete_prompt(plan, position, on_tokens) for position in prompts])
        async with aclosing(deltas):
            async for delta in deltas:
                choices[delta.row].add(delta)
        if any(choice.expired for choice in choices) and not any(choice.tokens for choice in choices):
            raise deadline(_NOTHING)
        return choices

    async def stream(
        self, plan: Plan, on_tokens: Callable[[int], None] | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Yield deltas as the engine generates tokens; ``row`` is the choice's index.

        Closing the iterator cancels the engine's work. Calls back, ends and raises as ``run`` does.
        """
        prompts, produced = range(len(plan.engine_requests)), False
        async with aclosing(merge([self._stream_prompt(plan, each) for each in prompts])) as deltas:
            async for delta in deltas:
                produced = produced or delta.tokens > 0
                if on_tokens is not None:
                    on_tokens(delta.tokens)
                if delta.expired and not produced:
                    raise deadline(_NOTHING)
                yield delta

    def _sequences(self, plan: Plan, position: int) -> list[OutputSequence]:
        request = plan.engine_requests[position]
        first = position * plan.request.rows
        offset = plan.echoes[position].length
        shown = {token: text for text, token in request.shown.items()}
        return [
            OutputSequence(first + row, self.tokenizer, request.stops, request.max_tokens, offset, shown)
            for row in range(request.n)
        ]

    async def _complete_prompt(
        self, plan: Plan, position: int, on_tokens: Callable[[int], None] | None
    ) -> AsyncGenerator[Delta, None]:
        sequences = self._sequences(plan, position)
        echo = await self._scored_echo(plan, position)
        request = replace(_timed(plan, position), on_tokens=on_tokens)
        for chunk in await self._engine.complete(request):
            yield _after_echo(echo, sequences[chunk.row].push(chunk))

    async def _stream_prompt(self, plan: Plan, position: int) -> AsyncGenerator[Delta, None]:
        """Yield a prompt's deltas, and stop the engine as soon as every row has finished."""
        sequences = self._sequences(plan, position)
        budget = _TimeBudget(plan.request.time_budget_s)
        started: set[int] = set()
        echo = await self._scored_echo(plan, position)
        async with aclosing(self._engine.stream(_timed(plan, position))) as chunks:
            async for chunk in chunks:
                sequence = sequences[chunk.row]
                delta = sequence.push(chunk)
                if chunk.row not in started and (delta or delta.tokens):
                    started.add(chunk.row)
                    delta = _after_echo(echo, delta)
                if budget.spent(delta) and sequence.finish_reason is None:
                    delta = sequence.cut(delta)
                yield delta
                if all(sequence.finish_reason for sequence in sequences):
                    return


def _timed(plan: Plan, position: int) -> GenerateRequest:
    """Return a prompt's engine request, with what is left of the request's time."""
    return replace(plan.engine_requests[position], deadline_s=plan.remaining_s)


class _TimeBudget:
    """llama.cpp's ``t_max_predict_ms``: generation ends after that time, but only once a line is complete."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._line_complete = False

    def spent(self, delta: Delta) -> bool:
        if self._seconds is None:
            return False
        self._line_complete = self._line_complete or "\n" in delta.text
        return self._line_complete and time.monotonic() - self._started > self._seconds


def _after_echo(echo: Echo, delta: Delta) -> Delta:
    """Put the echoed prompt before a row's first delta."""
    if echo.text or echo.entries:
        delta.text = echo.text + delta.text
        delta.entries = [*echo.entries, *delta.entries]
    return delta


def _seeds(request: CompletionRequest) -> list[int]:
    """Return one seed per row: counted up from the caller's, or random."""
    if request.seed is None:
        return [secrets.randbelow(_SEEDS) for _ in range(request.rows)]
    return [request.seed + row for row in range(request.rows)]


def best(choices: Sequence[Choice], n: int, rows: int) -> list[Choice]:
    """Keep the ``n`` best of every ``rows`` choices, and renumber them.

    The measure is the mean log probability per token, as OpenAI defines it.
    """
    kept = []
    for first in range(0, len(choices), rows):
        group = sorted(
            choices[first : first + rows], key=lambda c: c.logprob_sum / max(1, c.tokens), reverse=True
        )
        kept += sorted(group[:n], key=lambda choice: choice.index) if rows == n else group[:n]
    for index, choice in enumerate(kept):
        choice.index = index
    return kept

"""The one pipeline behind every dialect: a request becomes jobs, jobs become deltas, deltas become choices.

A whole answer is the sum of the same deltas that a stream sends, so the two cannot disagree.
"""

import codecs
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.completion.types import Choice, CompletionRequest, Echo, Plan
from gateway.engine.base import Engine, GenerateRequest, ScoreRequest
from gateway.merge import merge
from gateway.text.output_sequence import Delta, OutputSequence, TokenEntry
from gateway.text.prompt import BuiltPrompt, Prompt, PromptBuilder
from gateway.text.tokenizer import Tokenizer

# FauxPilot draws seeds from 0 to 2^31 - 2.
_SEEDS = 2**31 - 1
_NEWLINES = "\n\n"
# Nothing stands before a single token, so there is nothing to score.
_SCORABLE = 2


class Completer:
    """Plans and runs completions on one engine."""

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
        self, request: CompletionRequest, deadline_s: float, request_id: str, traceparent: str | None
    ) -> Plan:
        """Tokenise and fit every prompt; raises 400 for prompts that cannot be used."""
        built = [await self._builder.build(prompt, request.max_tokens) for prompt in request.prompts]
        plain_stops = self._stop_ids(request.stops)
        jobs = []
        for prompt in built:
            fim_ids = self._stop_ids(self._fim_stops) if prompt.fim else []
            jobs.append(
                GenerateRequest(
                    prompt_ids=prompt.ids,
                    max_tokens=prompt.max_tokens,
                    sampling=request.sampling,
                    seeds=_seeds(request),
                    n=request.rows,
                    stop_ids=plain_stops + fim_ids,
                    logprobs=bool(request.logprobs is not None or request.rows > request.n),
                    seeded=request.seed is not None,
                    deadline_s=deadline_s,
                    request_id=request_id,
                    traceparent=traceparent,
                    stops=self._stops(request, prompt),
                    model=request.model,
                )
            )
        echoes = [self._echo(request, *pair) for pair in zip(request.prompts, built, strict=True)]
        return Plan(request, built, jobs, echoes)

    def _stops(self, request: CompletionRequest, prompt: BuiltPrompt) -> Sequence[str]:
        return (*request.stops, *(self._fim_stops if prompt.fim else ()))

    def _stop_ids(self, stops: Sequence[str]) -> list[list[int]]:
        """Return the ids of each stop as FauxPilot sends them.

        The blank line gets its other spelling as well: it is one token by itself but often two in a text.
        """
        found = []
        for stop in stops:
            ids = self.tokenizer.encode_control(stop)
            if ids:
                found.append(ids)
            twice = self.tokenizer.encode_control("\n") * 2 if stop == _NEWLINES else ids
            if twice != ids:
                found.append(twice)
        return found

    def _echo(self, request: CompletionRequest, prompt: Prompt, built: BuiltPrompt) -> Echo:
        """Return what stands before the completion: the prompt when echoed, and always its length."""
        given = prompt.text is not None and not built.truncated
        text = (prompt.text or "") if given else self.tokenizer.decode(built.ids)
        if not request.echo:
            return Echo(len(text))
        return Echo(len(text), text, () if request.logprobs is None else self._prompt_entries(built.ids))

    def _prompt_entries(self, ids: Sequence[int]) -> list[TokenEntry]:
        entries, offset, utf8 = [], 0, codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            entries.append(TokenEntry(token, self.tokenizer.decode_one(token), None, offset))
            offset += len(utf8.decode(self.tokenizer.bytes_of(token)))
        return entries

    async def _scored(self, plan: Plan, position: int) -> Echo:
        """Return the echo with log probabilities where those were asked for; the first token has none."""
        echo, job = plan.echoes[position], plan.jobs[position]
        if len(echo.entries) < _SCORABLE:
            return echo
        asked = ScoreRequest(job.prompt_ids, 1, job.deadline_s, job.request_id, job.traceparent)
        values = [None, *await self._engine.score(asked)]
        pairs = zip(echo.entries, values, strict=True)
        return replace(echo, entries=[replace(entry, logprob=value) for entry, value in pairs])

    async def run(self, plan: Plan) -> list[Choice]:
        """Return the finished choices in index order; cancelling cancels the engine's work."""
        choices = [Choice(index) for index in range(len(plan.jobs) * plan.request.rows)]
        if plan.request.time_budget_s is not None:
            async with aclosing(self.stream(plan)) as deltas:
                async for delta in deltas:
                    choices[delta.row].add(delta)
        else:
            sources = [self._whole(plan, position) for position in range(len(plan.jobs))]
            async with aclosing(merge(sources)) as merged:
                async for delta in merged:
                    choices[delta.row].add(delta)
        return choices

    def stream(self, plan: Plan) -> AsyncGenerator[Delta, None]:
        """Yield deltas as the engine makes tokens; ``row`` is the choice's index.

        Closing cancels the engine.
        """
        return merge([self._pieces(plan, position) for position in range(len(plan.jobs))])

    def _rows(self, plan: Plan, position: int) -> list[OutputSequence]:
        job = plan.jobs[position]
        first = position * plan.request.rows
        offset = plan.echoes[position].length
        return [
            OutputSequence(first + row, self.tokenizer, job.stops, job.max_tokens, offset)
            for row in range(job.n)
        ]

    async def _whole(self, plan: Plan, position: int) -> AsyncGenerator[Delta, None]:
        rows = self._rows(plan, position)
        echo = await self._scored(plan, position)
        for tokens in await self._engine.complete(plan.jobs[position]):
            yield _after_echo(echo, rows[tokens.row].push(tokens))

    async def _pieces(self, plan: Plan, position: int) -> AsyncGenerator[Delta, None]:
        """Yield a prompt's deltas, and stop the engine as soon as every row has finished."""
        rows = self._rows(plan, position)
        budget = _Budget(plan.request.time_budget_s)
        begun: set[int] = set()
        echo = await self._scored(plan, position)
        async with aclosing(self._engine.stream(plan.jobs[position])) as pieces:
            async for tokens in pieces:
                row = rows[tokens.row]
                delta = row.push(tokens)
                if tokens.row not in begun and (delta or delta.tokens):
                    begun.add(tokens.row)
                    delta = _after_echo(echo, delta)
                if budget.spent(delta) and row.finish_reason is None:
                    delta = row.cut(delta)
                yield delta
                if all(row.finish_reason for row in rows):
                    return


class _Budget:
    """llama.cpp's ``t_max_predict_ms``: time is up, but only once a line is complete."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._line = False

    def spent(self, delta: Delta) -> bool:
        if self._seconds is None:
            return False
        self._line = self._line or "\n" in delta.text
        return self._line and time.monotonic() - self._started > self._seconds


def _after_echo(echo: Echo, delta: Delta) -> Delta:
    """Put the echoed prompt before a row's first delta."""
    if echo.text or echo.entries:
        delta.text = echo.text + delta.text
        delta.entries = [*echo.entries, *delta.entries]
    return delta


def _seeds(request: CompletionRequest) -> list[int]:
    """Return one seed per row: counted up from the caller's, or drawn."""
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

"""One request's way through the gateway: a place in the queue, tokens, the engine, and what it cost."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from gateway.admission.admission import Admission
from gateway.caller import Caller
from gateway.completion.completer import Completer, best
from gateway.completion.types import Choice, CompletionRequest, Plan
from gateway.errors import ApiError, deadline, unavailable
from gateway.responses import EventStream, json_response, until_disconnect
from gateway.settings import Settings
from gateway.telemetry.metrics import Completion, Metrics
from gateway.text.output_sequence import Delta

_TOO_SLOW = "The completion was not finished within its deadline of {seconds:g} s. Ask for fewer tokens."


@dataclass(slots=True)
class CompletionResult:
    """A finished request: its choices, what it used, and where the time went in seconds."""

    plan: Plan
    queue_s: float
    started: float = field(default_factory=time.perf_counter)
    choices: Sequence[Choice] = ()
    completion_tokens: int = 0
    first_token_s: float | None = None
    engine_s: float = 0.0
    complete: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, each counted once."""
        return self.plan.prompt_tokens


class StreamWriter(Protocol):
    """How a dialect writes a stream. A chunk may be empty: nothing is sent then."""

    def chunk(self, delta: Delta, answer: "CompletionResult") -> bytes:
        """Return the bytes for a delta; ``answer`` holds what has been counted up to and with it."""
        ...

    def end(self, answer: CompletionResult) -> bytes:
        """Return what follows the last delta."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """Return what tells the client that the stream broke off."""
        ...


class CompletionService:
    """Runs completion requests for every dialect, under admission and with metrics."""

    def __init__(
        self, settings: Settings, completer: Completer, admission: Admission, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.completer = completer
        self.metrics = metrics
        self.admission = admission

    async def whole(
        self,
        http: Request,
        caller: Caller,
        request: CompletionRequest,
        render: Callable[[CompletionResult], object],
    ) -> Response:
        """Answer with one JSON document; a client that leaves cancels the work."""
        answer = await until_disconnect(http.receive, self._answer(http, caller, request))
        return json_response(render(answer))

    async def streamed(
        self, http: Request, caller: Caller, request: CompletionRequest, writer: StreamWriter,
        headers: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        """Answer with a stream.

        It starts only with its first bytes, so an early failure still has a status.
        """
        chunks = self._chunks(http, caller, request, writer)
        try:
            first = await until_disconnect(http.receive, anext(chunks, b""))
        except BaseException:
            await chunks.aclose()
            raise
        return EventStream(first, chunks, writer.failure, self.settings.write_timeout_s, headers)

    async def _answer(self, http: Request, caller: Caller, request: CompletionRequest) -> CompletionResult:
        async with self.admission.slot(caller, http.state.request_id) as queue_s:
            answer = await self._begin(http, request, queue_s)
            try:
                async with asyncio.timeout(self._left(queue_s) + 1):
                    choices = await self.completer.run(answer.plan)
            except TimeoutError:
                raise deadline(_TOO_SLOW.format(seconds=self.settings.deadline_s)) from None
            except asyncio.CancelledError:
                # How far the engine came is not known here; FasterTransformer can't even be stopped.
                self.metrics.cancelled(sum(job.n * job.max_tokens for job in answer.plan.jobs))
                http.state.log["cancelled"] = True
                raise
            finally:
                answer.engine_s = time.perf_counter() - answer.started
            answer.completion_tokens = sum(choice.tokens for choice in choices)
            answer.choices = best(choices, request.n, request.rows)
            answer.complete = True
            await self._finish(http, caller, answer)
            return answer

    async def _chunks(
        self, http: Request, caller: Caller, request: CompletionRequest, writer: StreamWriter
    ) -> AsyncGenerator[bytes, None]:
        async with self.admission.slot(caller, http.state.request_id) as queue_s:
            answer = await self._begin(http, request, queue_s)
            choices = [Choice(index) for index in range(len(answer.plan.jobs) * request.rows)]
            answer.choices = choices
            try:
                async with aclosing(self.completer.stream(answer.plan)) as deltas:
                    async for delta in self._timely(deltas):
                        answer.completion_tokens += delta.tokens
                        if answer.first_token_s is None:
                            answer.first_token_s = time.perf_counter() - http.state.started
                        choices[delta.row].add(delta)
                        if chunk := writer.chunk(delta, answer):
                            yield chunk
                answer.complete = True
                yield writer.end(answer)
            finally:
                answer.engine_s = time.perf_counter() - answer.started
                await self._finish(http, caller, answer)

    async def _timely(self, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        """Pass deltas on; the first has a deadline of its own where one is set."""
        try:
            async with asyncio.timeout(self.settings.first_token_s):
                first = await anext(deltas, None)
        except TimeoutError:
            message = f"The model server sent no token within {self.settings.first_token_s:g} s."
            raise deadline(message) from None
        if first is not None:
            yield first
        async for delta in deltas:
            yield delta

    def _left(self, queue_s: float) -> float:
        left = self.settings.deadline_s - queue_s
        if left <= 0:
            raise unavailable(
                "The request's deadline passed in the queue. Try again shortly.", 1.0, "timeout"
            )
        return left

    async def _begin(self, http: Request, request: CompletionRequest, queue_s: float) -> CompletionResult:
        """Tokenise; the request holds its place already, so a refused one never costs this."""
        plan = await self.completer.plan(
            request, self._left(queue_s), http.state.request_id, http.state.traceparent
        )
        if plan.truncated:
            self.metrics.truncated()
        return CompletionResult(plan, queue_s)

    async def _finish(self, http: Request, caller: Caller, answer: CompletionResult) -> None:
        """Count what was used, also when the client has left: its tokens were made all the same."""
        prompt, made = answer.prompt_tokens, answer.completion_tokens
        reasons = [choice.finish_reason or "abort" for choice in answer.choices]
        http.state.log.update(
            model=self.settings.model, prompt_tokens=prompt, completion_tokens=made,
            finish_reason=reasons[:8], queue_s=round(answer.queue_s, 6),
            triton_s=round(answer.engine_s, 6), ttft_s=answer.first_token_s,
            truncated=answer.plan.truncated, cancelled=not answer.complete,
        )  # fmt: skip
        if answer.complete:
            total = time.perf_counter() - http.state.started
            self.metrics.completion(
                Completion(
                    prompt, made, reasons, total, answer.queue_s, answer.engine_s, answer.first_token_s
                )
            )
            for choice in answer.choices:
                if choice.finish_reason == "stop":
                    self.metrics.stopped("text" if choice.stop else "token")
        else:
            self.metrics.cancelled(made)
        await self.admission.charge(caller, prompt + made)

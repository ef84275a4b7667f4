"""One request's way through the gateway: admission, tokenisation, the engine, and accounting."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from gateway.admission.admission import Admission
from gateway.admission.cursor import Cursor
from gateway.caller import Caller
from gateway.completion.completer import Completer, best
from gateway.completion.recent_answers import RecentAnswers
from gateway.completion.types import Choice, CompletionRequest, Plan
from gateway.errors import ApiError, deadline, unavailable
from gateway.responses import EventStream, json_response, until_disconnect
from gateway.settings import Settings
from gateway.telemetry.measurement import Measurement, Telemetry
from gateway.telemetry.metrics import CompletionStats
from gateway.text.output_sequence import Delta


@dataclass(slots=True)
class CompletionResult:
    """A finished request, or one under way: its choices, its token counts, and its times in seconds."""

    plan: Plan
    measured: Measurement
    queue_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    choices: Sequence[Choice] = ()
    completion_tokens: int = 0
    first_token_s: float | None = None
    engine_s: float = 0.0
    complete: bool = False

    def count(self, tokens: int) -> None:
        """Add tokens that were generated."""
        self.completion_tokens += tokens

    @property
    def expired(self) -> bool:
        """Whether the deadline ended a choice."""
        return any(choice.expired for choice in self.choices)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, each counted once."""
        return self.plan.prompt_tokens


class StreamWriter(Protocol):
    """How a dialect writes a stream. Empty bytes are not sent."""

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:
        """Return the bytes for a delta; ``result`` holds the counts up to and with it."""
        ...

    def end(self, result: CompletionResult) -> bytes:
        """Return the bytes that follow the last delta."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """Return the bytes that report a failure after the stream has started."""
        ...


def _cursor(request: CompletionRequest) -> Cursor | None:
    """Return where the request is typed; only an editor's request has a suffix."""
    prompt = request.prompts[0]
    if len(request.prompts) > 1 or not prompt.suffix:
        return None
    return Cursor(prompt.text or "", prompt.suffix)


class CompletionService:
    """Runs completion requests for every dialect, under admission control and with metrics.

    Args:
        settings: deadlines and limits of requests.
        completer: plans requests and runs them on the engine.
        admission: gives slots at the engine, and charges tokens to callers.
        telemetry: measures requests, and counts them and their tokens.
    """

    def __init__(
        self, settings: Settings, completer: Completer, admission: Admission, telemetry: Telemetry
    ) -> None:
        self.settings = settings
        self.completer = completer
        self.metrics = telemetry.metrics
        self._telemetry = telemetry
        self.admission = admission
        self._recent = RecentAnswers(settings.recent_answers_s)

    async def complete(
        self,
        http: Request,
        caller: Caller,
        request: CompletionRequest,
        render: Callable[[CompletionResult], object],
    ) -> Response:
        """Return a response with one JSON document; a client that disconnects cancels the work.

        At the deadline the choices end with what there is, and a header says so.

        Args:
            http: the HTTP request, which carries the request id and the access log's fields.
            caller: who is charged for the tokens.
            request: what to complete.
            render: turns the finished result into the dialect's document.

        Raises:
            ApiError: 400 for a request that cannot be done, 429 and 503 from admission, 502, 503 and 504
                from the engine.
            ClientGone: the client has disconnected.
        """
        result = await until_disconnect(http.receive, self._complete(http, caller, request))
        headers = _ignored(request) | ({"x-assist-ended-by": "deadline"} if result.expired else {})
        return json_response(render(result), headers=headers)

    async def stream(
        self, http: Request, caller: Caller, request: CompletionRequest, writer: StreamWriter,
        headers: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        """Return a streamed response; a client that disconnects, or stops reading, cancels the work.

        The response starts with its first bytes, so an earlier failure still gets a status of its own.

        Args:
            http: the HTTP request, which carries the request id and the access log's fields.
            caller: who is charged for the tokens.
            request: what to complete.
            writer: writes deltas, the end and failures in the dialect's format.
            headers: further response headers.

        Raises:
            ApiError: as ``complete``, before the first token.
            ClientGone: the client has disconnected before the first token.
        """
        chunks = self._chunks(http, caller, request, writer)
        try:
            first = await until_disconnect(http.receive, anext(chunks, b""))
        except BaseException:
            await chunks.aclose()
            raise
        headers = _ignored(request) | (headers or {})
        return EventStream(first, chunks, writer.failure, self.settings.write_timeout_s, headers)

    def _measure(self, http: Request, request: CompletionRequest) -> AbstractContextManager[Measurement]:
        state = http.state
        return self._telemetry.measure(
            request.dialect, request.kind, state.request_id, state.traceparent, state.started
        )

    async def _complete(self, http: Request, caller: Caller, request: CompletionRequest) -> CompletionResult:
        with self._measure(http, request) as measured:
            if (known := self._recent.find(caller.id, request)) is not None:
                return await self._known(http, caller, request, known, measured)
            async with self._admitted(http, caller, request, measured) as result:
                try:
                    choices = await self.completer.run(result.plan, result.count)
                except asyncio.CancelledError:
                    result.engine_s = time.perf_counter() - result.started
                    await self._account(http, caller, result)
                    raise
                result.engine_s = time.perf_counter() - result.started
                result.completion_tokens = sum(choice.tokens for choice in choices)
                result.choices = best(choices, request.n, request.rows)
                result.complete = True
                self._recent.keep(caller.id, request, result.choices[0])
                await self._account(http, caller, result)
                return result

    async def _known(
        self, http: Request, caller: Caller, request: CompletionRequest, known: Choice, measured: Measurement
    ) -> CompletionResult:
        """Return the rest of an earlier answer; the request counts like any other, without a slot."""
        await self.admission.admit(caller)
        result = await self._plan(caller, request, measured)
        known.tokens = len(await self.completer.tokenizer.encode_fragment(known.text))
        result.completion_tokens, result.choices, result.complete = known.tokens, [known], True
        result.first_token_s = measured.first_token()
        self.metrics.answered_from_recent()
        await self._account(http, caller, result)
        return result

    async def _chunks(
        self, http: Request, caller: Caller, request: CompletionRequest, writer: StreamWriter
    ) -> AsyncGenerator[bytes, None]:
        with self._measure(http, request) as measured:
            if (known := self._recent.find(caller.id, request)) is not None:
                result = await self._known(http, caller, request, known, measured)
                delta = Delta(0, known.text, tokens=known.tokens, finish_reason="stop")
                if chunk := writer.chunk(delta, result):
                    yield chunk
                yield writer.end(result)
                return
            async with self._admitted(http, caller, request, measured) as result:
                try:
                    async with aclosing(self._written(caller, result, writer)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                finally:
                    result.engine_s = time.perf_counter() - result.started
                    await self._account(http, caller, result)

    async def _written(
        self, caller: Caller, result: CompletionResult, writer: StreamWriter
    ) -> AsyncGenerator[bytes, None]:
        """Yield a plan's deltas as the dialect writes them, and its end; ``result`` grows with them."""
        request = result.plan.request
        choices = [Choice(index) for index in range(len(result.plan.engine_requests) * request.rows)]
        result.choices = choices
        async with aclosing(self.completer.stream(result.plan)) as deltas:
            async for delta in self._with_first_token_deadline(deltas):
                result.completion_tokens += delta.tokens
                result.first_token_s = result.measured.first_token()
                choices[delta.row].add(delta)
                if chunk := writer.chunk(delta, result):
                    yield chunk
        result.complete = True
        self._recent.keep(caller.id, request, choices[0])
        yield writer.end(result)

    async def _with_first_token_deadline(
        self, deltas: AsyncGenerator[Delta, None]
    ) -> AsyncGenerator[Delta, None]:
        """Pass deltas on; the first has a deadline of its own where one is set."""
        try:
            async with asyncio.timeout(self.settings.first_token_timeout_s):
                first = await anext(deltas, None)
        except TimeoutError:
            message = f"The model server sent no token within {self.settings.first_token_timeout_s:g} s."
            raise deadline(message) from None
        if first is not None:
            yield first
        async for delta in deltas:
            yield delta

    @asynccontextmanager
    async def _admitted(
        self, http: Request, caller: Caller, request: CompletionRequest, measured: Measurement
    ) -> AsyncIterator[CompletionResult]:
        """Plan a request, hold a slot for it, and yield its result to be filled.

        A prompt that cannot be used is refused without a slot.
        """
        planned: list[CompletionResult] = []

        async def prepare() -> None:
            planned.append(await self._plan(caller, request, measured))
            measured.queued_at = time.perf_counter()

        slot = self.admission.slot(caller, http.state.request_id, _cursor(request), prepare)
        async with slot as queue_s:
            (result,) = planned
            if not result.plan.remaining_s:
                raise unavailable(
                    "The request's deadline passed in the queue. Try again shortly.", 1.0, "timeout"
                )
            result.queue_s, result.started = queue_s, time.perf_counter()
            measured.engine_at = result.started
            yield result

    async def _plan(
        self, caller: Caller, request: CompletionRequest, measured: Measurement
    ) -> CompletionResult:
        """Tokenise a request; its deadline begins."""
        measured.tokenising_at = time.perf_counter()
        plan = await self.completer.plan(
            request, self.settings.deadline_s, measured.request_id, measured.span.traceparent, caller.id
        )
        measured.prompt_tokens = plan.prompt_tokens
        if plan.truncated:
            self.metrics.truncated()
        return CompletionResult(plan, measured)

    async def _account(self, http: Request, caller: Caller, result: CompletionResult) -> None:
        """Log, count and charge the tokens, also of a client that has left: the engine generated them."""
        prompt, generated = result.prompt_tokens, result.completion_tokens
        result.measured.completion_tokens, result.measured.expired = generated, result.expired
        reasons = [choice.finish_reason or "abort" for choice in result.choices]
        http.state.log.update(
            model=self.settings.model, prompt_tokens=prompt, completion_tokens=generated,
            finish_reason=reasons[:8], queue_s=round(result.queue_s, 6),
            triton_s=round(result.engine_s, 6), ttft_s=result.first_token_s,
            truncated=result.plan.truncated, expired=result.expired, cancelled=not result.complete,
        )  # fmt: skip
        if result.complete:
            total = time.perf_counter() - http.state.started
            self.metrics.completion(
                CompletionStats(prompt, generated, reasons, total, result.queue_s, result.engine_s)
            )
            if result.expired:
                self.metrics.expired()
            for choice in result.choices:
                if choice.finish_reason == "stop":
                    self.metrics.stopped("text" if choice.stop else "token")
        else:
            self.metrics.cancelled(generated)
        await self.admission.charge(caller, prompt + generated)


def _ignored(request: CompletionRequest) -> dict[str, str]:
    """Return the header that names the parameters without effect."""
    return {"x-assist-ignored": ", ".join(request.ignored)} if request.ignored else {}

"""Any server with OpenAI's completions API (llama.cpp, vLLM) as an engine.

The gateway still tokenises, because its limits and its fill-in-the-middle templates are in tokens, and
sends the ids: OpenAI's API has a place for them, and both servers take them. They return text.
"""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson

from gateway.engine.base import GenerateRequest, ScoreRequest, TokenChunk
from gateway.engine.breaker import Breaker
from gateway.engine.chunks import collect, expiry, until_expiry
from gateway.errors import ApiError, bad_gateway, deadline, invalid, unavailable

_CONNECT_S = 2.0
_READY_S = 1.0
_MAX_LINE = 4 * 1024 * 1024
_OVERLOADED = (429, 503)


class OpenAIEngine:
    """An engine on ``<url>/completions``; ``url`` usually ends in ``/v1``. Raises as ``Engine`` says."""

    def __init__(
        self, url: str, model: str, key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, transport=transport, trust_env=False,
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
        )  # fmt: skip
        self._model = model
        self._breaker = Breaker()

    async def complete(self, request: GenerateRequest) -> list[TokenChunk]:
        """Return one ``TokenChunk`` per row, from a stream: closing it early stops the server's work."""
        return await collect(self.stream(request), request)

    def stream(self, request: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        """Yield text as it arrives; one event counts as one token, because the API does not give a number.

        Raises 400 for log probabilities: without token ids they cannot be assigned reliably. Raises 400 for a
        constraint that is no JSON schema, unless it is not required.
        """
        return until_expiry(self._stream(request), request.n, expiry(request.deadline_s))

    async def _stream(self, request: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        if request.constraint is not None and request.constraint.required and not request.constraint.schema:
            raise invalid(
                "This engine cannot hold an answer to this model's syntax of tool calls, nor choose between"
                " tools and a response_format. Send tool_choice auto without response_format, or ask the"
                " administrator to serve the model with llama_cpp in Triton.",
                "tool_choice",
                "unsupported_parameter",
            )
        if request.logprobs:
            raise invalid(
                "This engine does not return log probabilities. Leave out logprobs.",
                "logprobs",
                "unsupported_parameter",
            )
        self._breaker.check()
        timeout = httpx.Timeout(request.deadline_s, connect=min(_CONNECT_S, request.deadline_s))
        headers = {"traceparent": request.traceparent} if request.traceparent else None
        try:
            async with self._client.stream(
                "POST", "completions", json=self._body(request), headers=headers, timeout=timeout
            ) as response:
                self._breaker.record_success()
                if response.status_code != httpx.codes.OK:
                    raise _status_error(response.status_code)
                async for chunk in _chunks(response, request):
                    yield chunk
        except httpx.ConnectError as error:
            self._breaker.record_failure()
            raise unavailable("The model server is not reachable. Try again shortly.") from error
        except httpx.TimeoutException as error:
            raise deadline("The model server did not answer within the request's deadline.") from error
        except httpx.HTTPError as error:
            raise unavailable("The model server broke the connection. Try again shortly.") from error

    async def score(self, request: ScoreRequest) -> list[float]:  # noqa: ARG002  -- the engine's interface
        """Raise 400: OpenAI's API returns text, and tokens differ from server to server."""
        raise invalid(
            "This engine cannot score prompt tokens. Leave out echo or logprobs, or serve the model with "
            "Triton.",
            "logprobs",
            "unsupported_parameter",
        )

    def _body(self, request: GenerateRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model, "prompt": list(request.prompt_ids), "max_tokens": request.max_tokens,
            "n": request.n, "temperature": sampling.temperature, "top_p": sampling.top_p, "stream": True,
        }  # fmt: skip
        if request.stops:
            body["stop"] = list(request.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = body["repeat_penalty"] = sampling.repetition_penalty
        if request.seeded:
            body["seed"] = request.seeds[0]
        if request.shown:
            body["preserved_tokens"] = list(request.shown)  # llama.cpp leaves them out of the text otherwise
        if request.constraint is not None and request.constraint.schema:
            schema = orjson.loads(request.constraint.schema)
            body["json_schema"] = schema  # llama.cpp's name for it
            body["response_format"] = {
                "type": "json_schema", "json_schema": {"name": "answer", "schema": schema},
            }  # fmt: skip
        return body

    async def ready(self) -> bool:
        """Return whether the server lists its models; takes one second at most and never raises."""
        try:
            response = await self._client.get("models", timeout=_READY_S)
        except httpx.HTTPError:
            return False
        if response.status_code == httpx.codes.OK:
            self._breaker.record_success()
            return True
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _status_error(status: int) -> ApiError:
    if status in _OVERLOADED:
        return unavailable("The model server is busy. Try again shortly.", 1.0, "overloaded")
    return bad_gateway(f"The model server refused the request with status {status}. Its log says why.")


async def _chunks(response: httpx.Response, request: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
    """Yield the rows' chunks; raises 502 when the stream ends before every row."""
    unfinished = set(range(request.n))
    async for event in _events(response):
        for chunk in _chunks_of(event, request.n):
            if chunk.final:
                unfinished.discard(chunk.row)
            yield chunk
    if unfinished:
        raise bad_gateway("The model server's stream ended before the completion did.")


async def _events(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the JSON objects of an event stream up to ``[DONE]``; raises 502 for anything else."""
    async for line in response.aiter_lines():
        if len(line) > _MAX_LINE:
            raise bad_gateway("The model server sent an event that is too large.")
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise bad_gateway("The model server sent an event that is not JSON.") from error
        if not isinstance(event, dict) or "error" in event:
            raise bad_gateway("The model server failed on this request. Its log says why.")
        yield event


def _chunks_of(event: dict[str, Any], rows: int) -> list[TokenChunk]:
    chunks = []
    for choice in event.get("choices") or ():
        try:
            row, text, reason = int(choice["index"]), choice.get("text") or "", choice.get("finish_reason")
        except (KeyError, TypeError, ValueError) as error:
            raise bad_gateway("The model server returned an invalid completion.") from error
        if not 0 <= row < rows or not isinstance(text, str):
            raise bad_gateway("The model server returned an invalid completion.")
        finish = reason if reason in ("stop", "length") else None
        chunks.append(
            TokenChunk(row, final=reason is not None, text=text, count=int(bool(text)), finish_reason=finish)
        )
    return chunks

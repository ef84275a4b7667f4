"""Any server with OpenAI's completions API (llama.cpp, vLLM) as an engine.

The gateway still tokenises, because its limits and its fill-in-the-middle templates are in tokens, and
sends the ids: that is part of OpenAI's API, and both servers take them. What comes back is text.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import orjson

from gateway.engine.base import GenerateRequest, ScoreRequest, TokenChunk
from gateway.engine.breaker import Breaker
from gateway.errors import ApiError, bad_gateway, deadline, invalid, unavailable

_CONNECT_S = 2.0
_READY_S = 1.0
_MAX_LINE = 4 * 1024 * 1024
_OVERLOADED = (429, 503)


class OpenAIEngine:
    """Streams from ``<url>/completions``; ``url`` ends in ``/v1`` as a rule."""

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

    async def complete(self, job: GenerateRequest) -> list[TokenChunk]:
        """Return one ``TokenChunk`` per row, from a stream: leaving early then stops the server's work."""
        texts = [""] * job.n
        counts = [0] * job.n
        reasons: list[Any] = [None] * job.n
        async with aclosing(self.stream(job)) as pieces:
            async for piece in pieces:
                texts[piece.row] += piece.text or ""
                counts[piece.row] += piece.count
                reasons[piece.row] = piece.finish_reason or reasons[piece.row]
        return [
            TokenChunk(row, final=True, text=texts[row], count=counts[row], finish_reason=reasons[row])
            for row in range(job.n)
        ]

    async def stream(self, job: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        """Yield text as it comes; one event counts as one token, because the API does not say otherwise.

        Raises 400 for log probabilities: without token ids they cannot be told apart reliably.
        """
        if job.logprobs:
            raise invalid("This engine gives no log probabilities.", "logprobs", "unsupported_parameter")
        self._breaker.check()
        timeout = httpx.Timeout(job.deadline_s, connect=min(_CONNECT_S, job.deadline_s))
        try:
            async with self._client.stream(
                "POST", "completions", json=self._body(job), timeout=timeout
            ) as answer:
                self._breaker.succeeded()
                if answer.status_code != httpx.codes.OK:
                    raise _refusal(answer.status_code)
                async for piece in _answered(answer, job):
                    yield piece
        except httpx.ConnectError as error:
            self._breaker.failed()
            raise unavailable("The model server is not reachable. Try again shortly.") from error
        except httpx.TimeoutException as error:
            raise deadline("The model server did not answer within the request's deadline.") from error
        except httpx.HTTPError as error:
            raise unavailable("The model server broke the connection. Try again shortly.") from error

    async def score(self, job: ScoreRequest) -> list[float]:  # noqa: ARG002  -- the engine's interface
        """Raise 400: OpenAI's API returns text, and what a token is differs from server to server."""
        raise invalid(
            "This engine tells no log probabilities of a given text. Leave out echo or logprobs, or serve "
            "the model with Triton.",
            "logprobs",
            "unsupported_parameter",
        )

    def _body(self, job: GenerateRequest) -> dict[str, Any]:
        sampling = job.sampling
        body: dict[str, Any] = {
            "model": self._model, "prompt": list(job.prompt_ids), "max_tokens": job.max_tokens, "n": job.n,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "stream": True,
        }  # fmt: skip
        if job.stops:
            body["stop"] = list(job.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = body["repeat_penalty"] = sampling.repetition_penalty
        if job.seeded:
            body["seed"] = job.seeds[0]
        return body

    async def ready(self) -> bool:
        """Say whether the server lists its models; bounded to one second, never raises."""
        try:
            answer = await self._client.get("models", timeout=_READY_S)
        except httpx.HTTPError:
            return False
        if answer.status_code == httpx.codes.OK:
            self._breaker.succeeded()
            return True
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _refusal(status: int) -> ApiError:
    if status in _OVERLOADED:
        return unavailable("The model server is busy. Try again shortly.", 1.0, "overloaded")
    return bad_gateway(f"The model server refused the request with status {status}. Its log says why.")


async def _answered(answer: httpx.Response, job: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
    """Yield the rows' pieces; raises 504 past the deadline and 502 when the stream ends before every row."""
    end = time.monotonic() + job.deadline_s
    unfinished = set(range(job.n))
    async for event in _events(answer):
        if time.monotonic() > end:
            raise deadline("The model server did not answer within the request's deadline.")
        for piece in _pieces(event, job.n):
            if piece.final:
                unfinished.discard(piece.row)
            yield piece
    if unfinished:
        raise bad_gateway("The model server's stream ended before the completion did.")


async def _events(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the JSON objects of an event stream up to ``[DONE]``."""
    async for line in answer.aiter_lines():
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


def _pieces(event: dict[str, Any], rows: int) -> list[TokenChunk]:
    found = []
    for choice in event.get("choices") or ():
        try:
            row, text, reason = int(choice["index"]), choice.get("text") or "", choice.get("finish_reason")
        except (KeyError, TypeError, ValueError) as error:
            raise bad_gateway("The model server's answer is no completion.") from error
        if not 0 <= row < rows or not isinstance(text, str):
            raise bad_gateway("The model server's answer is no completion.")
        known = reason if reason in ("stop", "length") else None
        found.append(
            TokenChunk(row, final=reason is not None, text=text, count=int(bool(text)), finish_reason=known)
        )
    return found

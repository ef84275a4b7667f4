"""Limits on the size and the time of a request body, before anything stores it.

uvicorn has neither limit: 200 MB of prompt become 1 GB of memory, and half a body stays open for ever. Here
reading ends at the first byte over the limit, with or without a Content-Length, and compressed bodies are
refused, so that a small body can't become a large one.
"""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import error_responses, errors
from gateway.errors import ApiError
from gateway.http.drain import Drain

_LINGER_S = 2.0
_LINGER_BYTES = 64 * 1024 * 1024


class BodyLimits:
    """413 over ``limit_bytes``, 408 after ``timeout_s`` seconds, 415 for a Content-Encoding."""

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int, timeout_s: float, drain: Drain, gitlab: bool
    ) -> None:
        self._app, self._limit, self._timeout_s = app, limit_bytes, timeout_s
        self._drain, self._gitlab = drain, gitlab

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request by its headers, or let the app read its body within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reader = _Reader(receive, self._limit, self._timeout_s, self._drain)
        response = _Response(send, reader)
        refused = self._by_headers(Headers(scope=scope))
        if refused is None:
            try:
                await self._app(scope, reader.receive, response.send)
            except ApiError:
                # The reader's own error, uncaught, e.g. on a route that is not FastAPI's.
                if reader.refused is None or response.started:
                    raise
            if reader.refused is None or response.started:
                return
            refused = reader.refused
        reader.refused = refused
        await error_responses.respond(response.send, refused, scope["path"], gitlab=self._gitlab)

    def _by_headers(self, headers: Headers) -> ApiError | None:
        if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            return _closing(ApiError(415, "Compressed request bodies are not accepted. Send plain JSON."))
        length = headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdigit()):
            return _closing(errors.invalid("Content-Length must be a number of bytes."))
        return _closing(errors.too_large(self._limit)) if int(length[:20]) > self._limit else None


class _Reader:
    """Counts and times the body as the app reads it; after its end, passes on disconnects without a limit."""

    def __init__(self, receive: Receive, limit: int, timeout_s: float, drain: Drain) -> None:
        self._receive, self._limit, self._drain = receive, limit, drain
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._timeout_s = timeout_s
        self._seen = 0
        self._complete = self._ended = False
        self.refused: ApiError | None = None

    async def receive(self) -> Message:
        """Return the next part; raises 413, 408 or, while stopping, 503, which also end the connection."""
        if self._complete:
            return await self._receive()
        message = await self._within_time(self._receive)
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
        self._ended = self._complete = not message.get("more_body", False)
        if self._seen > self._limit:
            raise self._refuse(errors.too_large(self._limit))
        return message

    async def _within_time(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline) as timeout:
                with self._drain.reading(timeout):
                    return await receive()
        except TimeoutError:
            if self._drain.refusing:
                raise self._refuse(errors.unavailable("The gateway is stopping.", code="draining")) from None
            message = f"The request body did not arrive within {self._timeout_s:g} s."
            raise self._refuse(ApiError(408, message, code="request_timeout")) from None

    def _refuse(self, error: ApiError) -> ApiError:
        self.refused = _closing(error)
        self._complete = True
        return self.refused

    async def linger(self) -> None:
        """Read and drop the rest for a moment, or a TCP reset hides the response from the client."""
        seen = 0
        try:
            async with asyncio.timeout(_LINGER_S):
                while seen < _LINGER_BYTES and not (self._ended or self._drain.refusing):
                    message = await self._receive()
                    seen += len(message.get("body", b""))
                    self._ended = not message.get("more_body", False)
        except TimeoutError:
            return


class _Response:
    """Records whether the response has started, and lingers before the end of one that refuses the body."""

    def __init__(self, send: Send, reader: _Reader) -> None:
        self._send, self._reader = send, reader
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = self.started or message["type"] == "http.response.start"
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not ends or self._reader.refused is None:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._reader.linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _closing(error: ApiError) -> ApiError:
    """Mark the connection for closing: the rest of the body on it is not a new request."""
    error.headers = {**error.headers, "Connection": "close"}
    return error

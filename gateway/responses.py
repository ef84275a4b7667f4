"""Responses on the wire: JSON, event streams, and detection of a client that disconnects."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import ApiError, unavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)
SSE = "text/event-stream; charset=utf-8"
# Proxies must not buffer a stream; X-Accel-Buffering is NGINX's switch.
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):  # noqa: N818  -- a signal, not a failure
    """The client closed the connection, so no response is needed."""


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response; lone surrogates cannot occur: ``read_json`` replaces them in requests."""
    return Response(
        orjson.dumps(content), status, dict(headers) if headers else None, media_type="application/json"
    )


def sse(content: object) -> bytes:
    """Return one event: one JSON object on one line.

    No comments and no pings: Copilot's parser logs those as errors.
    """
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end, or cancel it and raise ``ClientGone`` when the client disconnects."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await task


class EventStream(Response):
    """A response that sends chunks as they come.

    ``failure`` writes an error that occurs after the first chunk as an event, because the status has been
    sent already. A client that does not read for ``write_timeout_s`` seconds, or disconnects, closes ``rest``
    and with it the engine's work.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        failure: Callable[[ApiError], bytes],
        write_timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, headers={**_STREAM_HEADERS, **(headers or {})}, media_type=SSE)
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._failure = failure
        self._write_timeout_s = write_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  -- ASGI
        """Send the stream, and stop as soon as the client disconnects."""
        with suppress(ClientGone):
            await until_disconnect(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._write(send, self._first)
                async for chunk in self._rest:
                    await self._write(send, chunk)
            except ApiError as error:
                await self._fail(send, error)
            except TimeoutError:
                raise ClientGone from None
            except Exception:  # noqa: BLE001  -- the status is sent, so only an event can report it
                _log.exception("A stream failed after it had started")
                await self._fail(send, unavailable("The response was interrupted. Try again."))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fail(self, send: Send, error: ApiError) -> None:
        """Send the dialect's event for a failure.

        A dialect without one breaks the connection, so that no client takes the failure for the end.
        """
        event = self._failure(error)
        if not event:
            raise error
        await self._write(send, event)

    async def _write(self, send: Send, chunk: bytes) -> None:
        async with asyncio.timeout(self._write_timeout_s):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

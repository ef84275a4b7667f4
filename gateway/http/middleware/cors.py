"""Answer browsers that ask whether a page may call the gateway (Fetch standard, CORS protocol).

A preflight is answered 200 on every path, before authentication, because browsers send no credentials with
it. An origin that is not allowed gets an answer without ``Access-Control-Allow-Origin``, and the browser
refuses by itself. Starlette's middleware echoes the asked headers; llama.cpp's clients expect ``*``.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ANY = "*"
_PREFLIGHT = (
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
    (b"vary", b"Origin"),
)


class Cors:
    """Allows the origins given; ``*`` allows all by naming the one that asks."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or mark the app's answer for the asking origin."""
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        allowed = _ANY in self._origins or origin in self._origins
        if scope["method"] == "OPTIONS":
            await _answer(send, origin if allowed else None)
            return
        await self._app(scope, receive, _marking(send, origin) if allowed else send)


async def _answer(send: Send, origin: str | None) -> None:
    allow = [] if origin is None else [(b"access-control-allow-origin", origin.encode("latin-1"))]
    await send({"type": "http.response.start", "status": 200, "headers": [*_PREFLIGHT, *allow]})
    await send({"type": "http.response.body", "body": b""})


def _marking(send: Send, origin: str) -> Send:
    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "x-request-id, retry-after, openai-processing-ms"
            headers.add_vary_header("Origin")
        await send(message)

    return send_marked

"""CORS: whether a browser lets a page call the gateway (Fetch standard, CORS protocol).

A preflight gets 200 on every path, before authentication, because browsers send no credentials with it. An
origin that is not allowed gets a response without ``Access-Control-Allow-Origin``, and the browser refuses by
itself. Starlette's middleware echoes the requested headers; llama.cpp's clients expect ``*``.
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


def allowed_origins(configured: str | None, *, authenticated: bool) -> frozenset[str]:
    """Return the origins of a comma-separated list, in which ``none`` stands for no origin.

    Unset (``None``): with authentication every origin, because a page needs the user's key anyway, as with
    llama.cpp's server and GitLab's; without it none, because any web page could otherwise use a gateway on
    its visitor's own machine.
    """
    if configured is None:
        return frozenset({_ANY}) if authenticated else frozenset()
    return frozenset(name for each in configured.split(",") if (name := each.strip()) not in {"", "none"})


class Cors:
    """Allows the given origins; ``*`` allows all by naming the one of the request."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or add the CORS headers to the app's response."""
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        allowed = _ANY in self._origins or origin in self._origins
        if scope["method"] == "OPTIONS":
            await _answer_preflight(send, origin if allowed else None)
            return
        await self._app(scope, receive, _with_headers(send, origin) if allowed else send)


async def _answer_preflight(send: Send, origin: str | None) -> None:
    allow = [] if origin is None else [(b"access-control-allow-origin", origin.encode("latin-1"))]
    await send({"type": "http.response.start", "status": 200, "headers": [*_PREFLIGHT, *allow]})
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Send, origin: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = (
                "x-request-id, retry-after, openai-processing-ms, x-assist-ignored"
            )
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_headers

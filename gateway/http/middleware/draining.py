"""While the process stops: refusal of new requests, and the end of keep-alive connections."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import error_responses, errors
from gateway.http.drain import Drain
from gateway.http.health import PATHS


class Draining:
    """Counts requests under way; answers 503 with Retry-After once refusing, except on health routes."""

    def __init__(self, app: ASGIApp, *, drain: Drain, gitlab: bool) -> None:
        self._app, self._drain, self._gitlab = app, drain, gitlab

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counted, or refuse it."""
        if scope["type"] != "http" or scope["path"] in PATHS:
            await self._app(scope, receive, send)
            return
        if self._drain.refusing:
            error = errors.unavailable("The gateway is stopping. Send the request again.", 1.0, "draining")
            error.headers = {"Connection": "close"}
            await error_responses.respond(send, error, scope["path"], gitlab=self._gitlab)
            return
        with self._drain.request():
            await self._app(scope, receive, self._closing(send))

    def _closing(self, send: Send) -> Send:
        async def send_and_close(message: Message) -> None:
            if self._drain.stopping and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        return send_and_close

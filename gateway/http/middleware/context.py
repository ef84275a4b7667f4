"""A request's id, access-log line and metrics.

The line has the keys of GitLab's AI Assist gateway of 2023 and those that a route adds through
``request.state.log``: model, token counts, times. It never holds query strings, bodies or credentials; values
that a client chose are capped.
"""

import asyncio
import re
import time
import uuid
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import error_responses
from gateway.errors import ApiError
from gateway.http.health import PATHS
from gateway.telemetry.logs import clean, describe
from gateway.telemetry.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
# W3C Trace Context section 3.2
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
UNMATCHED = "unmatched"
_CLIENT_CLOSED = 499  # NGINX's code for a client that disconnects before its response starts


class RequestContext:
    """Sets ``request.state.request_id``, ``.traceparent``, ``.started``, ``.log``; adds headers."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._log = structlog.get_logger("access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, then log and count the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            await self._app(scope, receive, exchange.send)
            # uvloop writes at the end of a loop's turn: the response is sent now, logging comes after it.
            await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 -- the last stop before uvicorn, which would log its text
            self._log.error("unhandled", request_id=exchange.id, causes=describe(error))
            if exchange.response_started:
                raise _Broken(exchange.id) from None
            await error_responses.respond(exchange.send, _internal(exchange.id), scope["path"])
        finally:
            seconds = time.perf_counter() - exchange.started
            self._metrics.http(_template(scope), scope["method"], exchange.status, seconds)
            if scope["path"] in PATHS:
                self._log.debug("request", **exchange.line(seconds))
            else:
                self._log.info("request", **exchange.line(seconds))


class _Broken(Exception):  # noqa: N818 -- only a signal for uvicorn to close the connection
    """A response failed after it had started; the log has the cause under this request id."""


def _internal(request_id: str) -> ApiError:
    message = f"The gateway failed on this request. Report it with the id {request_id}."
    return ApiError(500, message, "server_error", "internal_error")


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started = time.perf_counter()
        self._cpu = time.process_time()
        self._scope, self._send = scope, send
        self._headers = Headers(scope=scope)
        self.status = _CLIENT_CLOSED
        self.response_started = False
        request_id = self._headers.get("x-request-id", "")
        self.id = request_id if _REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex
        trace = self._headers.get("traceparent", "")
        self._extra: dict[str, Any] = {}
        scope.setdefault("state", {}).update(
            request_id=self.id,
            traceparent=trace if _TRACEPARENT.fullmatch(trace) else None,
            started=self.started,
            log=self._extra,
        )

    async def send(self, message: Message) -> None:
        """Add the id and the times to the response's headers."""
        if message["type"] == "http.response.start":
            self.status, self.response_started = message["status"], True
            seconds = time.perf_counter() - self.started
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            headers["x-process-time"] = f"{seconds:.6f}"
            headers["openai-processing-ms"] = str(round(seconds * 1000))
        await self._send(message)

    def line(self, seconds: float) -> dict[str, Any]:
        """Return the access line's fields; ``cpu_s`` is the process's, exact only for a lone request."""
        scope, headers = self._scope, self._headers
        address, port = scope.get("client") or ("", 0)
        path = clean(scope["path"])
        return {
            "url": f"{scope.get('scheme', 'http')}://{clean(headers.get('host', ''))}{path}",
            "path": path,
            "status_code": self.status,
            "method": clean(scope["method"], 16),
            "correlation_id": self.id,
            "request_id": self.id,
            "http_version": scope.get("http_version", ""),
            "client_ip": clean(address, 64),
            "client_port": port,
            "duration_s": round(seconds, 6),
            "cpu_s": round(time.process_time() - self._cpu, 6),
            "user_agent": clean(headers.get("user-agent", "")),
            "gitlab_realm": clean(headers.get("x-gitlab-realm", ""), 64),
            "gitlab_instance_id": clean(headers.get("x-gitlab-instance-id", ""), 64),
            "gitlab_global_user_id": clean(headers.get("x-gitlab-global-user-id", ""), 64),
            "caller": scope.get("assist.caller"),
            "auth_duration_s": scope.get("assist.auth_s"),
            **self._extra,
        }


def _template(scope: Scope) -> str:
    """Return the route's template, never the path: a scanner must not be able to create time series."""
    return getattr(scope.get("route"), "path", None) or UNMATCHED

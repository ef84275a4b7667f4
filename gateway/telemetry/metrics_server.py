"""The metrics port: metrics and usage on a port of their own, from a thread of their own.

A separate port keeps them away from clients; a separate thread responds even while the event loop is busy,
which is when the numbers matter most.
"""

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CONTENT_TYPE_LATEST, disable_created_metrics, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import Usage

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_CLIENT_TIMEOUT_S = 5
_OPENMETRICS = "application/openmetrics-text"


class MetricsPortError(OSError):
    """The port can't be opened; the message names the remedy."""


class _Handler(WSGIRequestHandler):
    """Logs nothing, and drops clients that send nothing."""

    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 -- the base class's signature
        """Log nothing: scrapes arrive every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False


class MetricsServer:
    """``/metrics`` for Prometheus and ``/usage`` for ``assist keys usage``; ``port`` is the bound port.

    Raises ``MetricsPortError`` with the remedy when the port can't be opened.
    """

    def __init__(self, metrics: Metrics, usage: Usage, host: str, port: int) -> None:
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise MetricsPortError(
                f"The metrics port {host}:{port} can't be opened: {error.strerror}. "
                "Set ASSIST_METRICS_PORT to a free port, one for each gateway process."
            ) from None
        self._server.set_app(_application(metrics, usage))
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        """Start to respond."""
        self._thread.start()

    def close(self) -> None:
        """Stop and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_CLIENT_TIMEOUT_S)
        self._server.server_close()


def serve(metrics: Metrics, usage: Usage, host: str, port: int) -> MetricsServer:
    """Start a server on ``host:port`` (0: any free port); raises ``MetricsPortError`` with the remedy."""
    server = MetricsServer(metrics, usage, host, port)
    server.start()
    return server


def _application(metrics: Metrics, usage: Usage) -> Callable[..., Iterable[bytes]]:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # in OpenMetrics each counter would have a second series with its age

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in {"/metrics", "/metrics/"}:
            content_type, text = _exposition(metrics, environ.get("HTTP_ACCEPT", ""))
            start_response("200 OK", [("Content-Type", content_type)])
            return [text]
        exists = path == "/usage"
        body = json.dumps(
            {"callers": usage.snapshot()} if exists else {"error": "try /metrics or /usage"}
        ).encode()
        start_response("200 OK" if exists else "404 Not Found", [("Content-Type", "application/json")])
        return [body]

    return application


def _exposition(metrics: Metrics, accept: str) -> tuple[str, bytes]:
    """Return the content type and the metrics: in OpenMetrics, which has exemplars, for those who accept it.

    Names are the same in both. The library's own choice turns the colons of vLLM's names into underscores.
    """
    if _OPENMETRICS not in accept:
        return CONTENT_TYPE_LATEST, generate_latest(metrics.registry)
    text = openmetrics.generate_latest(metrics.registry, escaping="allow-utf-8")  # type: ignore[no-untyped-call]
    return f"{_OPENMETRICS}; version=1.0.0; charset=utf-8", text

"""Traces of requests by OTLP, off unless an endpoint is set. No span has any text of a prompt or an answer.

Spans are queued in memory and sent by a thread; while the collector does not respond, they are dropped.
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_SEND_TIMEOUT_S = 5
_QUEUED_SPANS = 2048
_PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """The span of one request; without tracing it does nothing and passes the caller's context on."""

    traceparent: str | None
    span: "Span | None" = None
    provider: "TracerProvider | None" = None

    @property
    def trace_id(self) -> str:
        """The id of the trace in hexadecimal, of the caller where it sent one; empty without any."""
        return self.traceparent.split("-")[1] if self.traceparent else ""

    def child(self, name: str, start_s: float, end_s: float) -> None:
        """Add a span of a part of the request; times are on ``time.perf_counter``."""
        if self.span is None or self.provider is None:
            return
        from opentelemetry.trace import set_span_in_context

        tracer = self.provider.get_tracer("gateway")
        part = tracer.start_span(name, set_span_in_context(self.span), start_time=_unix_ns(start_s))
        part.end(_unix_ns(end_s))

    def end(self, attributes: dict[str, Any], error: str | None = None) -> None:
        """End the span with numbers and words of the code; ``error`` is the outcome of a failed request."""
        if self.span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self.span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if error is not None:
            self.span.set_attribute("error.type", error)
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


class Tracing:
    """Makes the spans of requests and sends them to a collector.

    Args:
        endpoint: base URL of an OTLP collector (HTTP, protobuf), such as ``http://127.0.0.1:4318``; ``None``:
            no traces, and no library is loaded.
        ratio: share of the requests that are traced, from 0 to 1; a caller's own decision goes first.
        version: of the gateway.
    """

    def __init__(self, endpoint: str | None, ratio: float = 1.0, version: str = "") -> None:
        self._provider = None if endpoint is None else _provider(endpoint, ratio, version)

    def start(self, name: str, traceparent: str | None, started_s: float) -> RequestSpan:
        """Start the span of a request that arrived at ``started_s`` on ``time.perf_counter``."""
        if self._provider is None:
            return RequestSpan(traceparent)
        from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
        span = self._provider.get_tracer("gateway").start_span(
            name, parent, SpanKind.SERVER, start_time=_unix_ns(started_s)
        )
        context = span.get_span_context()
        flags = f"{int(context.trace_flags):02x}"
        own = f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{flags}"
        return RequestSpan(own, span, self._provider)

    def close(self) -> None:
        """Send what is queued, for as long as one attempt may take, and stop the thread."""
        if self._provider is not None:
            self._provider.shutdown()


def _unix_ns(perf_counter_s: float) -> int:
    return time.time_ns() - int((time.perf_counter() - perf_counter_s) * 1e9)


def _provider(endpoint: str, ratio: float, version: str) -> "TracerProvider":
    """Return a provider. Raises ``ValueError`` with the remedy where OpenTelemetry is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ValueError(
            f"ASSIST_OTLP_ENDPOINT needs OpenTelemetry, and {error.name} is missing. Install "
            "requirements/tracing.txt into the gateway's environment, or unset ASSIST_OTLP_ENDPOINT."
        ) from None

    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=url if url.endswith(_PATH) else url + _PATH, timeout=_SEND_TIMEOUT_S)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource({"service.name": "ai-assist-gateway", "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUED_SPANS))
    return provider

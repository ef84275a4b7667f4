"""One completion request's times and outcome, from which its metrics and its span are made."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.errors import ApiError
from gateway.telemetry.latency import Timings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import RequestSpan, Tracing

_UNAVAILABLE, _SERVER_ERROR = 503, 500
_BY_STATUS = {429: "limited", 499: "replaced", 502: "unavailable", 504: "timeout"}
_FAILURES = frozenset({"overloaded", "unavailable", "timeout", "error"})
# OpenTelemetry's word for each kind; a fill in the middle is a text completion there.
_OPERATIONS, _COMPLETION = {"chat": "chat"}, "text_completion"


@dataclass(slots=True)
class Measurement:
    """What is known of a request while it runs; times are on ``time.perf_counter``, counts in tokens.

    ``tokenising_at``, ``queued_at`` and ``engine_at``: when the request began to be tokenised, to wait for a
    slot, and to be computed. What is not known yet is ``None`` or 0.
    """

    model: str
    dialect: str
    kind: str
    request_id: str
    started: float
    span: RequestSpan
    tokenising_at: float | None = None
    queued_at: float | None = None
    engine_at: float | None = None
    first_token_at: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    expired: bool = False

    def first_token(self) -> float:
        """Note that the first token is here; return the seconds since the request's arrival."""
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        return self.first_token_at - self.started

    def timings(self, now: float) -> Timings:
        """Return the request's times at its end."""
        timings = Timings(now - self.started)
        if self.queued_at is not None:
            timings.queue_s = (self.engine_at or now) - self.queued_at
        if self.first_token_at is not None:
            timings.first_token_s = self.first_token_at - self.started
            if self.engine_at is not None and self.completion_tokens > 1:
                timings.token_s = (now - self.first_token_at) / (self.completion_tokens - 1)
        return timings


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where measurements go: the metrics, and the traces where they are on."""

    metrics: Metrics
    tracing: Tracing
    model: str

    @contextmanager
    def measure(
        self, dialect: str, kind: str, request_id: str, traceparent: str | None, started: float
    ) -> Iterator[Measurement]:
        """Measure a request that arrived at ``started`` on ``time.perf_counter``, however it ends."""
        name = f"{_OPERATIONS.get(kind, _COMPLETION)} {self.model}"
        span = self.tracing.start(name, traceparent, started)
        measured = Measurement(self.model, dialect, kind, request_id, started, span)
        try:
            yield measured
        except BaseException as error:
            self._record(measured, outcome_of(error))
            raise
        self._record(measured, "expired" if measured.expired else "ok")

    def _record(self, measured: Measurement, outcome: str) -> None:
        now = time.perf_counter()
        labels = {
            "model": measured.model, "dialect": measured.dialect, "kind": measured.kind, "outcome": outcome
        }  # fmt: skip
        exemplar = {"trace_id": measured.span.trace_id, "request_id": measured.request_id}
        self.metrics.request(labels, measured.timings(now), exemplar)
        _end_span(measured, outcome, now)


def outcome_of(error: BaseException) -> str:
    """Return how a request failed, in one word of a fixed set.

    ``overloaded``, ``unavailable``, ``timeout`` and ``error`` are the service's failures; ``cancelled``,
    ``replaced``, ``limited`` and ``invalid`` are not.
    """
    if not isinstance(error, ApiError):
        return "error" if isinstance(error, Exception) else "cancelled"
    if error.status == _UNAVAILABLE:
        return error.code if error.code in {"overloaded", "timeout"} else "unavailable"
    return _BY_STATUS.get(error.status, "invalid" if error.status < _SERVER_ERROR else "error")


def _end_span(measured: Measurement, outcome: str, now: float) -> None:
    """End the span and its parts; it gets numbers, names of the code and the request id, never text."""
    span = measured.span
    if measured.tokenising_at is not None:
        span.child("tokenize", measured.tokenising_at, measured.queued_at or now)
    if measured.queued_at is not None:
        span.child("queue", measured.queued_at, measured.engine_at or now)
    if measured.engine_at is not None:
        span.child("generate", measured.engine_at, now)
    attributes = {
        "gen_ai.operation.name": _OPERATIONS.get(measured.kind, _COMPLETION),
        "gen_ai.request.model": measured.model,
        "gen_ai.usage.input_tokens": measured.prompt_tokens,
        "gen_ai.usage.output_tokens": measured.completion_tokens,
        "assist.dialect": measured.dialect,
        "assist.kind": measured.kind,
        "assist.outcome": outcome,
        "assist.request_id": measured.request_id,
    }
    span.end(attributes, outcome if outcome in _FAILURES else None)

"""Prometheus metrics, under the names that dashboards for vLLM and llama.cpp use.

Each application has a registry of its own. Labels are bounded by construction: route templates, status codes,
fixed reasons and the ids in the key file; never a path, a model name, an address or a token that a client
chose. Several gateways on a host are several processes with a metrics port each, which Prometheus scrapes as
separate targets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_TOKENS = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FINISHES = frozenset({"stop", "length", "abort", "error"})
_FAILURES = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "ReadTimeout",
        "TimeoutError",
        "ReadError",
        "no JSON",
        "no jwks_uri",
        "no keys",
    }
)
MAX_KEY_LABELS = 500
OTHER = "other"


@dataclass(frozen=True, slots=True)
class CompletionStats:
    """One completed request's tokens and times in seconds; ``first_token_s`` is from arrival.

    ``finish_reasons`` has one entry per choice (``stop``, ``length``, ``abort``); ``engine_s`` is the time
    spent waiting for the engine, so that total - queue - engine is the gateway's own time. ``None``: unknown.
    """

    prompt_tokens: int
    completion_tokens: int
    finish_reasons: Sequence[str]
    total_s: float
    queue_s: float = 0.0
    engine_s: float | None = None
    first_token_s: float | None = None


class Metrics:
    """All metrics of one application; the metrics port serves ``registry``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_completion_metrics()
        self._make_http_metrics()
        self._key_labels: set[str] = set()

    def _make_completion_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens processed")
        self._generated = counter("vllm:generation_tokens", "Tokens generated")
        self._success = counter("vllm:request_success", "Choices finished", ["finished_reason"])
        self._prompt_size = histogram(
            "vllm:request_prompt_tokens", "Prompt tokens per request", buckets=_TOKENS
        )
        self._generated_size = histogram(
            "vllm:request_generation_tokens", "Generated tokens per request", buckets=_TOKENS
        )
        self._first_token = histogram(
            "vllm:time_to_first_token_seconds", "Arrival to first token", buckets=_SECONDS
        )
        self._between = histogram(
            "vllm:inter_token_latency_seconds", "Mean time between tokens of a request", buckets=_FAST
        )
        self._total = histogram("vllm:e2e_request_latency_seconds", "Arrival to last token", buckets=_SECONDS)
        self._queued = histogram(
            "vllm:request_queue_time_seconds", "Time in the gateway's queue", buckets=_SECONDS
        )
        self._overhead = histogram(
            "assist_overhead_seconds", "Gateway's own time, without queue and engine", buckets=_FAST
        )
        self._llama_prompt = counter("llamacpp:prompt_tokens", "Prompt tokens processed")
        self._llama_predicted = counter("llamacpp:tokens_predicted", "Tokens generated")
        self._truncated = counter("assist_prompts_truncated", "Prompts cut to fit the context")
        self._ignored = counter("assist_parameters_ignored", "Unsupported parameters", ["parameter"])
        self._cancelled = counter("assist_requests_cancelled", "Requests whose client left")
        self._wasted = counter(
            "assist_tokens_wasted",
            "Tokens generated for clients that left; of whole completions, the number requested",
        )
        self._recent = counter("assist_recent_answers", "Requests answered from their caller's last answers")
        self._expired = counter("assist_completions_expired", "Completions that the deadline cut short")
        self._stopped = counter("assist_stops", "Completions ended by a stop string", ["by"])

    def _make_http_metrics(self) -> None:
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._running = gauge("vllm:num_requests_running", "Requests at the engine")
        self._waiting = gauge("vllm:num_requests_waiting", "Requests in the queue")
        self._processing = gauge("llamacpp:requests_processing", "Requests at the engine")
        self._deferred = gauge("llamacpp:requests_deferred", "Requests in the queue")
        self._refused = counter("assist_requests_refused", "Requests refused before work", ["reason"])
        self._http = counter("http_requests", "HTTP requests", ["handler", "method", "status"])
        self._http_time = histogram(
            "http_request_duration_seconds", "HTTP requests", ["handler"], buckets=_SECONDS
        )
        self._auth = counter("assist_auth", "Authentication outcomes", ["outcome"])
        self._auth_failures = counter("assist_auth_provider_failures", "Provider did not respond", ["why"])
        self._auth_time = histogram(
            "assist_auth_provider_seconds", "Response time of the provider", buckets=_SECONDS
        )
        self._redis_failures = counter("assist_redis_failures", "Redis calls that failed")
        self._draining = gauge("assist_draining", "1 while the process is stopping")
        self._key_requests = counter("assist_key_requests", "Admitted requests per key", ["key"])
        self._key_tokens = counter("assist_key_tokens", "Tokens charged per key", ["key"])

    def completion(self, done: CompletionStats) -> None:
        """Count one completed request."""
        self._prompt_tokens.inc(done.prompt_tokens)
        self._llama_prompt.inc(done.prompt_tokens)
        self._generated.inc(done.completion_tokens)
        self._llama_predicted.inc(done.completion_tokens)
        for reason in done.finish_reasons:
            self._success.labels(reason if reason in _FINISHES else OTHER).inc()
        self._prompt_size.observe(done.prompt_tokens)
        self._generated_size.observe(done.completion_tokens)
        self._total.observe(done.total_s)
        if done.engine_s is not None:
            self._overhead.observe(max(0.0, done.total_s - done.queue_s - done.engine_s))
        if done.first_token_s is not None:
            self._first_token.observe(done.first_token_s)
            if done.completion_tokens > 1:
                self._between.observe((done.total_s - done.first_token_s) / (done.completion_tokens - 1))

    def truncated(self) -> None:
        """Count a prompt that was truncated to fit the context."""
        self._truncated.inc()

    def ignored(self, parameter: str) -> None:
        """Count a parameter accepted without effect; its name comes from the code, not the client."""
        self._ignored.labels(parameter).inc()

    def stopped(self, by: str) -> None:
        """Count a completion that ended ``by`` a stop string in the ``text`` or a ``token`` of the model."""
        self._stopped.labels(by if by in {"text", "token"} else OTHER).inc()

    def answered_from_recent(self) -> None:
        """Count a request that needed no engine, because its caller types an earlier answer."""
        self._recent.inc()

    def expired(self) -> None:
        """Count a completion that the deadline ended with what there was."""
        self._expired.inc()

    def cancelled(self, wasted_tokens: int = 0) -> None:
        """Count a client that disconnected before its response was complete."""
        self._cancelled.inc()
        self._wasted.inc(wasted_tokens)

    def load(self, running: int, waiting: int) -> None:
        """Set how many requests run and wait."""
        self._running.set(running)
        self._processing.set(running)
        self._waiting.set(waiting)
        self._deferred.set(waiting)

    def queued(self, seconds: float) -> None:
        """Record how long an admitted request waited."""
        self._queued.observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refused request; ``reason`` is one of a fixed set, never a client's text."""
        self._refused.labels(reason).inc()

    def http(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP exchange under its route template."""
        self._http.labels(handler, method if method in _METHODS else OTHER, str(status)).inc()
        self._http_time.labels(handler).observe(seconds)

    def auth(self, outcome: str) -> None:
        """Count an authentication outcome: allowed, cached, denied, missing or unavailable."""
        self._auth.labels(outcome).inc()

    def auth_failure(self, cause: str) -> None:
        """Count a failure of the provider by its cause."""
        is_label = cause in _FAILURES or (cause.startswith("status ") and cause[7:].isdigit())
        self._auth_failures.labels(cause if is_label else OTHER).inc()

    def auth_latency(self, seconds: float) -> None:
        """Record the provider's response time."""
        self._auth_time.observe(seconds)

    def redis_failed(self) -> None:
        """Count a Redis call that failed."""
        self._redis_failures.inc()

    def watch_draining(self, stopping: Callable[[], bool]) -> None:
        """Report what ``stopping`` returns, whether the process is stopping, at each scrape."""
        self._draining.set_function(lambda: float(stopping()))

    def key(self, key_id: str, *, requests: int = 0, tokens: int = 0) -> None:
        """Add to one key's counters; keys beyond the first ``MAX_KEY_LABELS`` are counted together."""
        if key_id not in self._key_labels:
            if len(self._key_labels) >= MAX_KEY_LABELS:
                key_id = OTHER
            else:
                self._key_labels.add(key_id)
        if requests:
            self._key_requests.labels(key_id).inc(requests)
        if tokens:
            self._key_tokens.labels(key_id).inc(tokens)

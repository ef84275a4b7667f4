"""Prometheus metrics: latencies under OpenTelemetry's names, counts under those of vLLM and llama.cpp.

Each application has a registry of its own. Labels are bounded by construction: route templates, status codes,
fixed reasons and a number of users; never a path, a model name, an address or a token that a client chose.
Several gateways on a host are several processes with a metrics port each, which Prometheus scrapes as
separate targets.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from gateway.telemetry.latency import Latencies, Timings
from gateway.telemetry.top_users import OTHER, TopUsers

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


@dataclass(frozen=True, slots=True)
class CompletionStats:
    """One completed request's tokens and times in seconds.

    ``finish_reasons`` has one entry per choice (``stop``, ``length``, ``abort``); ``engine_s`` is the time
    spent waiting for the engine, so that total - queue - engine is the gateway's own time. ``None``: unknown.
    """

    prompt_tokens: int
    completion_tokens: int
    finish_reasons: Sequence[str]
    total_s: float
    queue_s: float = 0.0
    engine_s: float | None = None


class Metrics:
    """All metrics of one application; the metrics port serves ``registry``.

    At most ``max_users`` users have series of their own; all others are counted together.
    """

    def __init__(self, max_users: int = 100) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._latencies = Latencies(self.registry)
        self._make_completion_metrics()
        self._make_http_metrics()
        self._make_state_metrics()
        self._make_user_metrics(max_users)

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

    def _make_state_metrics(self) -> None:
        gauge = partial(Gauge, registry=self.registry)
        self._draining = gauge("assist_draining", "1 while the process is stopping")
        self._engine_up = gauge("assist_engine_up", "1 while the engine can be used")
        self._redis_used = gauge("redis_memory_used_bytes", "Memory that Redis uses", ["redis"])
        self._redis_max = gauge("redis_memory_max_bytes", "Memory that Redis may use; 0: no limit", ["redis"])
        self._slots = gauge("assist_slots", "Requests at the engine at once, at most")
        self._queue_size = gauge("assist_queue_size", "Requests in the queue, at most")
        self._build = gauge("assist_build_info", "Release of the gateway", ["release"])
        self._model = gauge("assist_model_wanted_info", "Model of the stack", ["model", "revision"])

    def _make_user_metrics(self, max_users: int) -> None:
        counter = partial(Counter, labelnames=["user"], registry=self.registry)
        self._per_user = {
            "requests": counter("assist_user_requests", "Admitted requests per user"),
            "refused": counter("assist_user_refused", "Refused requests per user"),
            "tokens": counter("assist_user_tokens", "Tokens charged per user"),
        }
        self._top_users = TopUsers(max_users, self._drop_user)

    def _drop_user(self, user: str) -> None:
        for counter in self._per_user.values():
            with suppress(KeyError):
                counter.remove(user)

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
        if done.engine_s is not None:
            self._overhead.observe(max(0.0, done.total_s - done.queue_s - done.engine_s))

    def request(self, labels: Mapping[str, str], timings: Timings, exemplar: Mapping[str, str]) -> None:
        """Record the times of a request that has ended in any way."""
        self._latencies.observe(labels, timings, exemplar)

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

    def limits(self, slots: int, queue: int) -> None:
        """Set how many requests may run and wait."""
        self._slots.set(slots)
        self._queue_size.set(queue)

    def about(self, release: str, model: str, revision: str) -> None:
        """Set what runs: the gateway's release, and the model and revision that the stack asks for."""
        self._build.labels(release).set(1)
        self._model.labels(model, revision).set(1)

    def engine_up(self, *, up: bool) -> None:
        """Set whether the engine can be used."""
        self._engine_up.set(up)

    def watch_keys(self, readable: Callable[[], bool]) -> None:
        """Report what ``readable`` returns, whether the key file can be used, at each scrape."""
        gauge = Gauge("assist_keys_readable", "0 while the key file cannot be used", registry=self.registry)
        gauge.set_function(lambda: float(readable()))

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

    def redis_memory(self, name: str, used: int, maximum: int) -> None:
        """Set the bytes that the Redis ``name``, ``cache`` or ``queue``, uses and may use."""
        self._redis_used.labels(name).set(used)
        self._redis_max.labels(name).set(maximum)

    def watch_draining(self, stopping: Callable[[], bool]) -> None:
        """Report what ``stopping`` returns, whether the process is stopping, at each scrape."""
        self._draining.set_function(lambda: float(stopping()))

    def user(self, user: str, *, requests: int = 0, refused: int = 0, tokens: int = 0) -> None:
        """Add to a user's counters; those of the users beyond the first ``max_users`` are one."""
        label = self._top_users.label(user, requests + tokens)
        for name, count in (("requests", requests), ("refused", refused), ("tokens", tokens)):
            if count:
                self._per_user[name].labels(label).inc(count)

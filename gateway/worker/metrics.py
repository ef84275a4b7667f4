"""A worker's metrics; their labels come from fixed sets."""

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)


class WorkerMetrics:
    """All metrics of one worker process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._ended = Counter(
            "assist_jobs_ended", "Jobs that left a worker, by how", ["status"], registry=registry
        )
        self._seconds = Histogram(
            "assist_jobs_seconds", "Time of a job at a worker", buckets=_SECONDS, registry=registry
        )
        self._items = Counter("assist_jobs_items", "Items worked on", ["outcome"], registry=registry)
        self._tokens = Counter("assist_jobs_tokens", "Tokens scored, read and generated", registry=registry)
        self._recovered = Counter(
            "assist_jobs_recovered",
            "Jobs whose worker or message was lost, delivered again",
            registry=registry,
        )

    def ended(self, status: str, seconds: float) -> None:
        """Count a job that has left this worker."""
        self._ended.labels(status).inc()
        self._seconds.observe(seconds)

    def item(self, tokens: int | None) -> None:
        """Count an item by its tokens; ``None`` for one that failed."""
        self._items.labels("failed" if tokens is None else "done").inc()
        self._tokens.inc(tokens or 0)

    def recovered(self) -> None:
        """Count a job that was delivered again."""
        self._recovered.inc()

    def serve(self, host: str, port: int) -> None:
        """Serve ``/metrics`` from a thread of its own; raises ``OSError`` when the port is in use."""
        start_http_server(port, host, self.registry)

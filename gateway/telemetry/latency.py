"""How long requests take, under the names of OpenTelemetry's GenAI conventions for servers.

``gen_ai.server.request.duration`` is ``gen_ai_server_request_duration_seconds`` here, as OpenTelemetry has it
for Prometheus. The gateway measures them itself, so that they are equal for every engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Histogram

# A code completion is felt as instant below 0.3 s, so half of the bounds lie there.
SECONDS = (
    0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0,
    30.0, 60.0,
)  # fmt: skip
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0)
LABELS = ("model", "dialect", "kind", "outcome")
# OpenMetrics 1.0: names and values of an exemplar's labels together.
_EXEMPLAR_CHARACTERS = 128


@dataclass(slots=True)
class Timings:
    """One request's times in seconds, from its arrival; ``None``: it did not come that far.

    ``first_token_s`` is known of streams and of answers from memory: a whole answer comes in one piece.
    ``token_s`` is the mean time of a token after the first one.
    """

    total_s: float
    queue_s: float | None = None
    first_token_s: float | None = None
    token_s: float | None = None


class Latencies:
    """The histograms; label values come from the code and the settings, never from a client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, labelnames=LABELS, registry=registry)
        self._total = histogram(
            "gen_ai_server_request_duration_seconds", "Arrival to last token", buckets=SECONDS
        )
        self._first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds", "Arrival to first token, of streams", buckets=SECONDS
        )
        self._token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time of a token after the first, of streams",
            buckets=_TOKEN_SECONDS,
        )
        self._queue = histogram(
            "assist_queue_duration_seconds", "Wait for a slot at the engine", buckets=(0.001, 0.005, *SECONDS)
        )

    def observe(self, labels: Mapping[str, str], timings: Timings, exemplar: Mapping[str, str]) -> None:
        """Record one request under ``LABELS``; ``exemplar`` identifies it, in OpenMetrics only."""
        values = tuple(labels[name] for name in LABELS)
        sample = _fitting(exemplar)
        for histogram, seconds in (
            (self._total, timings.total_s),
            (self._queue, timings.queue_s),
            (self._first_token, timings.first_token_s),
            (self._token, timings.token_s),
        ):
            if seconds is not None:
                histogram.labels(*values).observe(seconds, sample)


def _fitting(exemplar: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that fit in one exemplar; a client may choose a request id of 128 characters."""
    kept: dict[str, str] = {}
    room = _EXEMPLAR_CHARACTERS
    for name, value in exemplar.items():
        if value and len(name) + len(value) <= room:
            kept[name] = value
            room -= len(name) + len(value)
    return kept

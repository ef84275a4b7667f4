"""The ``monitoring`` section of a stack: objectives, and what watches them. A suffix names each unit."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stackfile.fields import Count, Port
from stackfile.validation import Strict

# Bounds of the gateway's histograms, in milliseconds: only at a bound can an objective be measured.
FirstToken = Literal[100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000]
Percent = Annotated[float, Field(ge=50, lt=100)]


def _http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must be an http(s) URL such as http://collector.example.com:4318")
    return url


class Objectives(Strict):
    """What users may expect over 30 days. Alerts tell when the permitted failures are used up too fast."""

    availability_percent: Percent = 99.5
    """Share of the requests that the service answers, in percent. Requests that are wrong, over their key's
    limit, or given up by their client do not count."""
    first_token_ms: FirstToken = 1000
    """Time within which a stream's first token should come, in milliseconds."""
    first_token_percent: Percent = 95.0
    """Share of the streams whose first token comes in time, in percent."""


class MonitoringSection(Strict):
    """What Prometheus gets of this stack, and how long a Prometheus of ours keeps it."""

    objectives: Objectives = Objectives()
    users: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Users with series of their own in the metrics; all others are counted together, as `other`."""
    traces: Annotated[str, AfterValidator(_http)] | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP) that gets traces of requests, without any text
    of them. Unset: no traces. Refused on clusters."""
    prometheus_port: Port = 9090
    """Port of the Prometheus that `make monitoring` runs on this machine, on loopback."""
    retention_days: Count = 15
    """Days for which that Prometheus keeps its series."""
    retention_mib: Count = 1024
    """Largest size of its series on the disk, in MiB; the oldest go first."""

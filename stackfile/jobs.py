"""The ``jobs`` section of a stack: texts to score and batches to complete, on a queue (``docs/jobs.md``)."""

from typing import Annotated

from pydantic import StringConstraints

from stackfile.fields import Count, Port
from stackfile.validation import Strict


class JobsSection(Strict):
    """The queue and its limits. Times in seconds, sizes in bytes.

    ``enabled`` left out means the target's default: on for hosts (whose inventory names the queue's host),
    off elsewhere. The secret ASSIST_JOBS_REDIS_URL holds the address of the queue's Redis and its password.
    """

    enabled: bool | None = None
    """Whether `/v1/jobs` and a worker run. Default: only with target `hosts`. Refused on clusters."""
    queue: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "jobs"
    """Name of the queue, where several deployments share a Redis."""
    result_ttl_s: Count = 86_400
    """Seconds for which a finished job and its results are kept."""
    max_per_key: Count = 100
    """Jobs of one key: waiting, running and kept."""
    max_waiting: Count = 1000
    """Jobs of all keys: waiting and running."""
    max_items: Count = 256
    """Items of one job."""
    max_bytes: Count = 2**20
    """Size of one job in bytes."""
    max_runtime_s: Count = 1800
    """Longest run time of a job, in seconds; then the job fails."""
    concurrency: Count = 4
    """Items of a job at the engine at once."""
    metrics_port: Port = 8090
    """Port of the worker's Prometheus metrics; further workers of a host use the next ports."""


def resolved(jobs: JobsSection, target: str) -> JobsSection:
    """Return the section with ``enabled`` decided."""
    enabled = target == "hosts" if jobs.enabled is None else jobs.enabled
    return jobs.model_copy(update={"enabled": enabled})

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
    queue: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "jobs"
    result_ttl_s: Count = 86_400
    max_per_key: Count = 100
    max_waiting: Count = 1000
    max_items: Count = 256
    max_bytes: Count = 2**20
    max_runtime_s: Count = 1800
    concurrency: Count = 4
    metrics_port: Port = 8090


def resolved(jobs: JobsSection, target: str) -> JobsSection:
    """Return the section with ``enabled`` decided."""
    enabled = target == "hosts" if jobs.enabled is None else jobs.enabled
    return jobs.model_copy(update={"enabled": enabled})

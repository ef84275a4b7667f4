"""The ``jobs`` section of a stack: texts to score and batches to complete, on a queue (``docs/jobs.md``)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from stackfile.validation import Strict

Count = Annotated[int, Field(ge=1)]


class Jobs(Strict):
    """What may be on the queue. Times in seconds, sizes in bytes.

    ``enabled`` left out means the target's own: on for hosts (whose inventory says where the queue is), off
    elsewhere. Where the queue's Redis is, and its password, is the secret ASSIST_JOBS_REDIS_URL.
    """

    enabled: bool | None = None
    queue: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "jobs"
    result_s: Count = 86_400
    max_per_key: Count = 100
    max_waiting: Count = 1000
    max_items: Count = 256
    max_bytes: Count = 2**20
    longest_s: Count = 1800
    parallel: Count = 4
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 8090


def resolved(jobs: Jobs, target: str) -> Jobs:
    """Return the section with ``enabled`` decided."""
    enabled = target == "hosts" if jobs.enabled is None else jobs.enabled
    return jobs.model_copy(update={"enabled": enabled})

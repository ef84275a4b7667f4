"""A job with more rows than the model's batch size, in parts."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.engine.base import GenerateRequest


def split(job: GenerateRequest, rows: int) -> list[GenerateRequest]:
    """Return the job in parts of at most ``rows`` rows."""
    if job.n <= rows:
        return [job]
    return [
        replace(job, n=min(rows, job.n - first), seeds=job.seeds[first : first + rows])
        for first in range(0, job.n, rows)
    ]


def starts(parts: Sequence[GenerateRequest]) -> list[int]:
    """Return the first row of each part."""
    starts, row = [], 0
    for part in parts:
        starts.append(row)
        row += part.n
    return starts

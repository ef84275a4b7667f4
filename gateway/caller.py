"""The caller of a request, in a form that is safe in logs and metrics."""

from dataclasses import dataclass

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller and its limits.

    ``id`` is short, printable and holds no secret. ``rpm`` is requests per minute, ``tpm`` tokens per minute,
    ``concurrency`` requests at once; 0 means no limit. Metrics have ``user`` as a label.
    """

    id: str
    user: str = ANONYMOUS
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0

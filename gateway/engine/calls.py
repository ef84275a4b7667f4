"""What goes with every call to Triton: how long it may take, and whose trace it belongs to."""

import time

from gateway.errors import deadline


def remaining(end: float) -> float:
    """Return the seconds until ``end`` on the monotonic clock; raises 504 when there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise deadline("The request's deadline passed before the model server answered.")
    return left


def metadata(traceparent: str | None) -> list[tuple[str, str]] | None:
    """Return a call's metadata: the caller's trace (W3C Trace Context), where it has one."""
    return [("traceparent", traceparent)] if traceparent else None

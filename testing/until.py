"""Waiting for a state, for as long as a slow machine may take and no longer."""

import asyncio
import time
from collections.abc import Callable

import pytest


def until(
    reached: Callable[[], object],
    within_s: float = 150,
    pause_s: float = 0.05,
    evidence: Callable[[], object] = str,
) -> None:
    """Return once ``reached`` is true; fail the test after ``within_s`` seconds, with the ``evidence`` of then."""
    end = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > end:
            pytest.fail(
                f"not reached within {within_s} s: {getattr(reached, '__name__', reached)} {evidence()}".strip()
            )
        time.sleep(pause_s)


async def until_async(reached: Callable[[], object], within_s: float = 60, pause_s: float = 0.01) -> None:
    """Do what ``until`` does, and let the event loop go on meanwhile."""
    end = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > end:
            pytest.fail(f"not reached within {within_s} s: {getattr(reached, '__name__', reached)}")
        await asyncio.sleep(pause_s)

"""Editors leave streams at every keystroke: the real Triton outlives it, and stops the work."""

import asyncio
import random
import time
from contextlib import suppress

import pytest

from gateway.engine.base import GenerateRequest, Sampling
from gateway.engine.triton import TritonEngine
from testing.servers.triton import Triton

pytestmark = pytest.mark.triton

LEFT, AT_ONCE = 600, 8


async def leave(engine: TritonEngine, at: int, chance: random.Random) -> None:
    """Ask for a stream and leave it after some milliseconds or some tokens."""
    prompt = [chance.randrange(5, 500) for _ in range(chance.randrange(3, 60))]
    wanted = GenerateRequest(prompt, chance.choice([5, 20, 60, 200]), Sampling(temperature=0.8), seeds=[at])
    tokens, seconds = chance.randrange(12), chance.random() / 20

    async def read() -> None:
        pieces = engine.stream(wanted)
        seen = 0
        async for _ in pieces:
            seen += 1
            if seen >= tokens:
                break
        await pieces.aclose()

    if at % 2:
        await read()
    else:
        with suppress(TimeoutError):
            await asyncio.wait_for(read(), seconds)


async def seconds_of_one(engine: TritonEngine) -> float:
    """Read a short stream to its end; return how long that took."""
    begun = time.monotonic()
    wanted = GenerateRequest([5, 6], 4, Sampling(temperature=0), seeds=[1])
    pieces = [piece async for piece in engine.stream(wanted)]
    assert pieces[-1].final
    return time.monotonic() - begun


async def test_hundreds_of_streams_left_at_any_moment_leave_triton_whole_and_idle(triton: Triton) -> None:
    pid = triton.pid
    engine = TritonEngine(triton.grpc, 0)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(at: int) -> None:
        async with places:
            await leave(engine, at, random.Random(at))

    try:
        idle = max([await seconds_of_one(engine) for _ in range(5)])
        await asyncio.gather(*(one(at) for at in range(LEFT)))
        assert (triton.pid, triton.is_ready()) == (pid, True)
        assert await seconds_of_one(engine) < 2 + 10 * idle, "the work for those who left still goes on"
    finally:
        await engine.close()

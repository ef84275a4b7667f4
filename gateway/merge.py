"""Merging of asynchronous iterators: bounded, and closed together."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

T = TypeVar("T")
_DEPTH = 32


class _End:
    """Mark of an exhausted source."""


async def merge(sources: Sequence[AsyncGenerator[T, None]], at_once: int = 8) -> AsyncGenerator[T, None]:
    """Yield from all sources as items come, with at most ``at_once`` sources running.

    The first error of a source ends all and is raised here; closing this iterator closes every source.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield item
        return
    queue: asyncio.Queue[T | _End | BaseException] = asyncio.Queue(_DEPTH)
    gate = asyncio.Semaphore(at_once)

    async def pump(source: AsyncGenerator[T, None]) -> None:
        try:
            async with gate, aclosing(source):
                async for item in source:
                    await queue.put(item)
            await queue.put(_End())
        except Exception as error:  # noqa: BLE001  -- handed to the consumer, which raises it
            await queue.put(error)

    tasks = [asyncio.create_task(pump(source)) for source in sources]
    try:
        open_sources = len(tasks)
        while open_sources:
            entry = await queue.get()
            if isinstance(entry, BaseException):
                raise entry
            if isinstance(entry, _End):
                open_sources -= 1
            else:
                yield entry
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

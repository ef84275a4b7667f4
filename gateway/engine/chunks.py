"""What all engines do with a request's chunks: end them when its time is up, and join them to whole rows."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from gateway.engine.base import GenerateRequest, TokenChunk

# Between the last token and the request's deadline: the engine stops, and the answer is written and sent.
_MARGIN_S, _MARGIN_SHARE = 1.0, 0.1


def expiry(deadline_s: float) -> float:
    """Return when generation ends, on ``time.monotonic``, for an answer within ``deadline_s`` from now."""
    return time.monotonic() + deadline_s - min(_MARGIN_S, _MARGIN_SHARE * deadline_s)


async def until_expiry(
    chunks: AsyncGenerator[TokenChunk, None], rows: int, expires: float
) -> AsyncGenerator[TokenChunk, None]:
    """Yield chunks until ``expires``; then close them, and end every row that is not final.

    Closing stops the engine's work. Past ``expires`` it is not even begun.
    """
    unfinished = set(range(rows))
    async with aclosing(chunks):
        while (left := expires - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                break
            if chunk.final:
                unfinished.discard(chunk.row)
            yield chunk
    for row in sorted(unfinished):
        yield TokenChunk(row, final=True, expired=True)


async def collect(chunks: AsyncGenerator[TokenChunk, None], request: GenerateRequest) -> list[TokenChunk]:
    """Return one chunk for each row, with all that its chunks brought."""
    parts: list[list[TokenChunk]] = [[] for _ in range(request.n)]
    async with aclosing(chunks):
        async for chunk in chunks:
            if request.on_tokens is not None:
                request.on_tokens(chunk.count or len(chunk.ids))
            parts[chunk.row].append(chunk)
    return [_joined(row, of_row) for row, of_row in enumerate(parts)]


def _joined(row: int, parts: Sequence[TokenChunk]) -> TokenChunk:
    texts = [part.text for part in parts if part.text is not None]
    return TokenChunk(
        row,
        [token for part in parts for token in part.ids],
        [value for part in parts for value in part.logprobs],
        final=True,
        text="".join(texts) if texts else None,
        count=sum(part.count for part in parts),
        finish_reason=next((part.finish_reason for part in parts if part.finish_reason), None),
        expired=any(part.expired for part in parts),
    )

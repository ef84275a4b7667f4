"""An engine inside the test process that continues every row at once with the same token."""

from collections.abc import AsyncGenerator

from gateway.engine.base import GenerateRequest, ScoreRequest, TokenChunk

_TOKEN = 64


class InstantEngine:
    """Generates as many tokens as requested, all the same one; never fails."""

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        for row in range(request.n):
            for step in range(request.max_tokens):
                yield TokenChunk(row, [_TOKEN], [-0.5], final=step == request.max_tokens - 1)

    async def complete(self, request: GenerateRequest) -> list[TokenChunk]:
        ids = [_TOKEN] * request.max_tokens
        return [TokenChunk(row, ids, [-0.5] * request.max_tokens, final=True) for row in range(request.n)]

    async def score(self, request: ScoreRequest) -> list[float]:
        return [-0.5] * (len(request.ids) - request.start)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is open."""

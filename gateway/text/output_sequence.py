"""Incremental detokenizer of one generated sequence: from tokens to text and log probabilities.

Tokens are processed one at a time, however they are chunked. That is why a streamed completion and a whole
one agree in text, log probabilities, offsets, finish reason and usage.
"""

import codecs
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.engine.base import TokenChunk
from gateway.text.stops import StopMatcher
from gateway.text.tokenizer import Tokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One generated token: its id, its text by itself, its log probability, and its offset in characters."""

    id: int
    text: str
    logprob: float | None
    offset: int


@dataclass(slots=True)
class Delta:
    """What a chunk added to a row. ``finish_reason`` is set once, on the row's last delta.

    ``tokens`` counts all new tokens, also those whose text is held back or cut off. ``expired``: the row
    ended because the request's time was up.
    """

    row: int
    text: str = ""
    entries: list[TokenEntry] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop: str | None = None
    tokens: int = 0
    logprob_sum: float = 0.0
    expired: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.entries or self.finish_reason)


class OutputSequence:
    """Turns the token chunks of row ``index`` into deltas.

    ``offset`` is the number of characters before the generated text; ``shown`` are the texts of control
    tokens that are not left out of it.
    """

    def __init__(
        self,
        index: int,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        max_tokens: int,
        offset: int = 0,
        shown: Mapping[int, str] | None = None,
    ) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._stops = StopMatcher(stops)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._max_tokens = max_tokens
        self._offset = offset
        self._shown = shown or {}
        self._decoded = 0
        self._emitted = 0
        self._waiting: deque[TokenEntry] = deque()
        self.tokens = 0
        self.finish_reason: FinishReason | None = None

    def push(self, chunk: TokenChunk) -> Delta:
        """Add the next tokens and return the text that is final now; empty once the row has finished."""
        delta = Delta(self._index)
        if self.finish_reason is not None:
            return delta
        if chunk.text is not None:
            self._take_text(delta, chunk)
        else:
            for position, token in enumerate(chunk.ids):
                logprob = chunk.logprobs[position] if position < len(chunk.logprobs) else None
                self._take(delta, token, logprob)
                if self.finish_reason is not None:
                    break
        if chunk.final and self.finish_reason is None:
            delta.expired = chunk.expired
            cut = chunk.expired or self._at_limit()
            self._finish(delta, chunk.finish_reason or ("length" if cut else "stop"))
        return delta

    def cut(self, delta: Delta) -> Delta:
        """End the row here, because its time budget is used up."""
        self._finish(delta, "length")
        return delta

    def _at_limit(self) -> bool:
        return self.tokens >= self._max_tokens

    def _take(self, delta: Delta, token: int, logprob: float | None) -> None:
        """Add one token: count it, decode it, and finish the row at end of text, a stop or the limit."""
        self.tokens += 1
        delta.tokens += 1
        delta.logprob_sum += logprob or 0.0
        if self._tokenizer.is_end(token):
            self._finish(delta, "stop")
            return
        piece = self._tokenizer.bytes_of(token) or self._shown.get(token, "").encode()
        text = self._utf8.decode(piece)
        alone = piece.decode("utf-8", "replace")
        entry = TokenEntry(token, alone, logprob, self._offset + self._decoded)
        self._waiting.append(entry)
        self._decoded += len(text)
        self._emit(delta, self._stops.push(text))
        if self._stops.matched is not None:
            self._finish(delta, "stop")
        elif self._at_limit():
            self._finish(delta, "length")

    def _take_text(self, delta: Delta, chunk: TokenChunk) -> None:
        """Add text from an engine that decodes by itself; ``count`` is its number of tokens."""
        self.tokens += chunk.count
        delta.tokens += chunk.count
        self._emit(delta, self._stops.push(chunk.text or ""))
        if self._stops.matched is not None:
            self._finish(delta, "stop")

    def _emit(self, delta: Delta, text: str) -> None:
        """Add text to the delta, with the tokens whose text has now begun to appear."""
        delta.text += text
        self._emitted += len(text)
        while self._waiting and self._waiting[0].offset < self._offset + self._emitted:
            delta.entries.append(self._waiting.popleft())

    def _finish(self, delta: Delta, reason: FinishReason) -> None:
        """End the row; an incomplete character at its very end is dropped, as an editor cannot show it."""
        if self._stops.matched is None:
            self._emit(delta, self._stops.flush())
        self._waiting.clear()
        self.finish_reason = delta.finish_reason = reason
        delta.stop = self._stops.matched

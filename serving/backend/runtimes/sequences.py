"""What a runtime with continuous batching advances: a row that is generated, or one that is scored."""

import threading
from collections.abc import Sequence as Tokens
from typing import Protocol

import numpy as np

from ..requests import OutputRow
from .sampling import Logits, log_probability, next_token


class Sequence(Protocol):
    """A row on its way. ``length`` of its tokens are in the cache, in the row ``slot``."""

    row: OutputRow
    prompt: Tokens[int]
    """What is read at once."""
    token: int
    """What comes after it, one by one: the newest."""
    slot: int
    length: int
    ended: threading.Event
    error: Exception | None

    def take(self, logits: Logits) -> bool:
        """Settle the next token; return whether the row needs no more."""
        ...

    def end(self, error: Exception | None = None) -> None:
        """Let whoever waits for the row go on."""
        ...


class _Waited:
    """What both kinds share."""

    def __init__(self, row: OutputRow, prompt: Tokens[int]) -> None:
        self.row = row
        self.prompt = prompt
        self.token = 0
        self.slot = 0
        self.length = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        self.error = error
        self.ended.set()


class Generated(_Waited):
    """A row whose next tokens are chosen."""

    def __init__(self, row: OutputRow) -> None:
        """Start with the whole prompt; equal seeds draw equal numbers, whatever else runs."""
        super().__init__(row, row.prompt)
        self._random = np.random.default_rng(None if row.seed is None else row.seed & 0xFFFFFFFF)

    def take(self, logits: Logits) -> bool:
        """Choose the next token."""
        row = self.row
        context = [*row.prompt, *row.ids] if row.settings.looks_back else ()
        self.token, log_prob = next_token(logits, row.settings, context, self._random)
        return row.push(self.token, log_prob)


class Scored(_Waited):
    """A row whose tokens are given: what comes after ``score_from`` is fed as if it had been chosen."""

    def __init__(self, row: OutputRow) -> None:
        """Start with what is not scored."""
        super().__init__(row, row.prompt[: row.score_from])
        self._found: list[float] = []

    def take(self, logits: Logits) -> bool:
        """Score the next token."""
        row = self.row
        self.token = row.prompt[row.score_from + len(self._found)]
        self._found.append(log_probability(logits, self.token))
        if row.job.stopped:
            return True
        if row.score_from + len(self._found) == len(row.prompt):
            row.scored(self._found)
        return row.finished

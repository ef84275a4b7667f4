"""What is generated: a request is a job, a job has rows, a row is one sequence to continue."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Words = tuple[tuple[int, ...], ...]


class BadRequestError(ValueError):
    """A request that can never be served; the client gets INVALID_ARGUMENT and this message."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Rows with equal settings share batches. ``top_k`` 0 is no limit."""

    top_k: int = 1
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    end_id: int = 0
    bad_words: Words = ()
    score: bool = False
    """Nothing is generated: the prompt's own tokens are scored."""

    @property
    def greedy(self) -> bool:
        """Say whether the most likely token is always taken, so that no random number is drawn."""
        return self.top_k == 1

    @property
    def looks_back(self) -> bool:
        """Say whether what was generated changes what may come next."""
        return self.repetition_penalty != 1.0 or bool(self.bad_words)


class Reply(Protocol):
    """The way back to one client."""

    def tokens(self, row: "OutputRow", start: int, stop: int, *, final: bool) -> None:
        """Tell of the new tokens ``start`` to ``stop`` of a row; ``final`` if it will have no more."""

    def done(self, _job: "Request", /) -> None:
        """Tell that every row is finished. Called once, and never together with ``failed``."""

    def failed(self, error: Exception) -> None:
        """Tell that there will be no result. Called at most once."""

    def cancelled(self) -> bool:
        """Say whether the client has gone."""


@dataclass(eq=False, slots=True)
class OutputRow:
    """One sequence: its prompt, its limits and what has been generated so far."""

    job: "Request"
    index: int
    prompt: Sequence[int]
    limit: int
    settings: SamplingParams
    seed: int | None = None
    stop: Words = ()
    score_from: int = 1
    """Where ``settings.score``: the first prompt token that is scored; nothing stands before token 0."""
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    progress: tuple[int, bool] = (0, False)
    """How many tokens there are and whether it is finished: one value, because another thread reads both."""
    told: tuple[int, bool] = (0, False)
    """The progress that its client knows of."""

    @property
    def finished(self) -> bool:
        """Say whether the row needs no more tokens."""
        return self.progress[1]

    def push(self, token: int, log_prob: float) -> bool:
        """Take the next token; return whether the row needs no more."""
        if self.finished or self.job.stopped:
            return True
        self.ids.append(token)
        self.log_probs.append(log_prob if math.isfinite(log_prob) else 0.0)
        finished = token == self.settings.end_id or len(self.ids) >= self.limit or self._at_stop_word()
        self.progress = (len(self.ids), finished)
        self.job.progressed(self)
        return finished

    def scored(self, log_probs: Sequence[float]) -> None:
        """Take the log probabilities of the prompt's tokens from ``score_from`` on, and end the row."""
        if not self.finished:
            self.log_probs = [value if math.isfinite(value) else 0.0 for value in log_probs]
            self.finish()

    def finish(self) -> None:
        """End the row where it is."""
        if not self.finished:
            self.progress = (len(self.ids), True)
            self.job.progressed(self)

    def _at_stop_word(self) -> bool:
        return any(tuple(self.ids[-len(word) :]) == word for word in self.stop)


class Request:
    """One client's request: rows that share a reply and a deadline."""

    def __init__(self, reply: Reply, notify: Callable[[OutputRow], None], timeout_s: float = 0.0) -> None:
        """Make a job without rows. ``timeout_s`` counts from now; 0 means none."""
        self.reply = reply
        self.rows: list[OutputRow] = []
        self.stopped = False
        self.expires = time.monotonic() + timeout_s if timeout_s > 0 else math.inf
        self._notify = notify
        self._lock = threading.Lock()
        self._answered = False

    @property
    def finished(self) -> bool:
        """Say whether every row is finished."""
        return all(row.finished for row in self.rows)

    def progressed(self, row: OutputRow) -> None:
        """Pass on that a row has grown or ended."""
        self._notify(row)

    def complete(self) -> None:
        """Send the final answer, once."""
        if self._claim():
            self.reply.done(self)

    def fail(self, error: Exception) -> None:
        """Stop the work and send an error, unless the final answer has gone out."""
        self.stopped = True
        if self._claim():
            self.reply.failed(error)

    @property
    def answered(self) -> bool:
        """Say whether the final answer or an error has gone out."""
        return self._answered

    def _claim(self) -> bool:
        with self._lock:
            first, self._answered = not self._answered, True
        return first

"""The requests of clients: a request has rows, and a row is one sequence that is generated or scored."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Words = tuple[tuple[int, ...], ...]


class BadRequestError(ValueError):
    """A request that can never be served; the client receives INVALID_ARGUMENT and this message."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Rows with equal parameters share batches. ``top_k`` 0 is unlimited."""

    top_k: int = 1
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    end_id: int = 0
    bad_words: Words = ()
    score: bool = False
    """Nothing is generated: the prompt's own tokens are scored."""
    grammar: str = ""
    """What the text has to match, in a form that the runtime reads; empty for anything."""

    @property
    def greedy(self) -> bool:
        """Return whether the most likely token is always chosen, so that no random number is drawn."""
        return self.top_k == 1

    @property
    def depends_on_context(self) -> bool:
        """Return whether earlier tokens change the probabilities beyond what the model computes."""
        return self.repetition_penalty != 1.0 or bool(self.bad_words)


class Reply(Protocol):
    """The response to one client."""

    def tokens(self, row: "OutputRow", start: int, stop: int, *, final: bool) -> None:
        """Send the new tokens ``start`` to ``stop`` of a row; ``final`` if they are its last."""

    def done(self, _request: "Request", /) -> None:
        """Finish the response: every row is finished. Called once, and never together with ``failed``."""

    def failed(self, error: Exception) -> None:
        """Send ``error`` instead of a result. Called at most once."""

    def cancelled(self) -> bool:
        """Return whether the client has cancelled the request or disconnected."""


@dataclass(eq=False, slots=True)
class OutputRow:
    """One sequence: its prompt, its limits and the tokens that have been generated."""

    request: "Request"
    index: int
    prompt: Sequence[int]
    limit: int
    params: SamplingParams
    seed: int | None = None
    stop: Words = ()
    score_from: int = 1
    """With ``params.score``: the first prompt token that is scored; token 0 has no context."""
    wants_log_probs: bool = True
    """Otherwise a runtime may report 0 for each token, where it can save time by that."""
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    progress: tuple[int, bool] = (0, False)
    """The number of tokens, and whether the row is finished: one value, because another thread reads both."""
    sent: tuple[int, bool] = (0, False)
    """The progress that was sent to the client."""

    @property
    def finished(self) -> bool:
        """Return whether the row needs no more tokens."""
        return self.progress[1]

    def push(self, token: int, log_prob: float) -> bool:
        """Append the next token; return whether the row needs no more."""
        if self.finished or self.request.stopped:
            return True
        self.ids.append(token)
        self.log_probs.append(log_prob if math.isfinite(log_prob) else 0.0)
        finished = token == self.params.end_id or len(self.ids) >= self.limit or self._at_stop_word()
        self.progress = (len(self.ids), finished)
        self.request.progressed(self)
        return finished

    def scored(self, log_probs: Sequence[float]) -> None:
        """Store the log probabilities of the prompt's tokens from ``score_from`` on, and finish the row."""
        if not self.finished:
            self.log_probs = [value if math.isfinite(value) else 0.0 for value in log_probs]
            self.finish()

    def finish(self) -> None:
        """Finish the row with the tokens that it has."""
        if not self.finished:
            self.progress = (len(self.ids), True)
            self.request.progressed(self)

    def _at_stop_word(self) -> bool:
        return any(tuple(self.ids[-len(word) :]) == word for word in self.stop)


class Request:
    """One client's request: rows that share a reply and a deadline."""

    def __init__(
        self,
        reply: Reply,
        notify: Callable[[OutputRow], None],
        timeout_s: float = 0.0,
        *,
        whole: bool = False,
    ) -> None:
        """Create a request without rows.

        ``notify`` is called with each row that has grown or finished. ``timeout_s`` counts from now; 0 means
        no timeout. ``whole``: the client receives one response for all tokens.
        """
        self.reply = reply
        self.whole = whole
        self.rows: list[OutputRow] = []
        self.stopped = False
        self.expires = time.monotonic() + timeout_s if timeout_s > 0 else math.inf
        self._notify = notify
        self._lock = threading.Lock()
        self._answered = False

    @property
    def finished(self) -> bool:
        """Return whether every row is finished."""
        return all(row.finished for row in self.rows)

    def progressed(self, row: OutputRow) -> None:
        """Notify that ``row`` has grown or finished; of a whole request only the end matters."""
        if row.finished or not self.whole:
            self._notify(row)

    def complete(self) -> None:
        """Send the final response, once."""
        if self._claim():
            self.reply.done(self)

    def fail(self, error: Exception) -> None:
        """Stop the work and send an error, unless the final response has been sent."""
        self.stopped = True
        if self._claim():
            self.reply.failed(error)

    @property
    def answered(self) -> bool:
        """Return whether the final response or an error has been sent."""
        return self._answered

    def _claim(self) -> bool:
        with self._lock:
            first, self._answered = not self._answered, True
        return first

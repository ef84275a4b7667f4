"""onnxruntime: int8 on a CPU, with continuous batching: rows join and leave between any two tokens."""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

import numpy as np

from ..requests import BadRequestError, OutputRow
from .base import Options
from .onnx_model import OnnxModel
from .onnx_sampling import Logits, log_probability, next_token

# A prompt is read in chunks, so that a long prompt does not delay the running rows. The chunks, and therefore
# the text, do not depend on the other rows.
_CHUNK = 128
_CHUNKS_PER_STEP = 2


class ActiveRow(ABC):
    """A row that the model advances; ``length`` of its tokens are in the cache, in ``slot``.

    ``prompt`` is read in chunks, and then ``token``, the newest, one at a time.
    """

    def __init__(self, row: OutputRow, prompt: Sequence[int]) -> None:
        self.row = row
        self.prompt = prompt
        self.token = 0
        self.slot = 0
        self.length = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    @abstractmethod
    def take(self, logits: Logits) -> bool:
        """Determine the next token; return whether the row needs no more."""

    def end(self, error: Exception | None = None) -> None:
        """Wake the thread that waits for the row."""
        self.error = error
        self.ended.set()


class GeneratedRow(ActiveRow):
    """A row whose next tokens are sampled."""

    def __init__(self, row: OutputRow) -> None:
        """Start with the whole prompt; equal seeds draw equal numbers, whatever other rows run."""
        super().__init__(row, row.prompt)
        self._random = np.random.default_rng(None if row.seed is None else row.seed & 0xFFFFFFFF)

    def take(self, logits: Logits) -> bool:
        """Sample the next token."""
        row = self.row
        context = [*row.prompt, *row.ids] if row.params.depends_on_context else ()
        self.token, log_prob = next_token(logits, row.params, context, self._random)
        return row.push(self.token, log_prob)


class ScoredRow(ActiveRow):
    """A row whose tokens are given: those from ``score_from`` on are fed as if they had been sampled."""

    def __init__(self, row: OutputRow) -> None:
        """Start with the tokens that are not scored."""
        super().__init__(row, row.prompt[: row.score_from])
        self._log_probs: list[float] = []

    def take(self, logits: Logits) -> bool:
        """Score the next token."""
        row = self.row
        self.token = row.prompt[row.score_from + len(self._log_probs)]
        self._log_probs.append(log_probability(logits, self.token))
        if row.request.stopped:
            return True
        if row.score_from + len(self._log_probs) == len(row.prompt):
            row.scored(self._log_probs)
        return row.finished


class OnnxRuntime:
    """One thread that advances up to ``parallel`` rows; a call of ``generate`` adds one and waits for it."""

    max_rows = 1

    def __init__(self, options: Options) -> None:
        """Load the model and run one token through it, so that the first request is as fast as others."""
        self.parallel = options.parallel
        self._context_length = options.context_length
        self._model = OnnxModel(options, options.parallel)
        self.vocabulary_size = self._model.vocabulary_size
        self.eos_id = self._model.eos_id
        self._model.read(0, [self.eos_id], 0)
        self._arrived: deque[ActiveRow] = deque()
        self._reading: ActiveRow | None = None
        self._running: list[ActiveRow] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue the row; see ``Runtime``. Raises ``BadRequestError`` and ``RuntimeError``."""
        (row,) = rows
        self._check(row)
        self._run(GeneratedRow(row))

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Score the row; see ``Runtime``. Scoring a token costs as much as generating it.

        Raises ``BadRequestError`` and ``RuntimeError``.
        """
        (row,) = rows
        self._check(row)
        self._run(ScoredRow(row))

    def close(self) -> None:
        """Stop the thread after the current token, and free the model."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)
        del self._model

    def _run(self, active: ActiveRow) -> None:
        """Pass a row to the thread and wait for its end."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the model has been unloaded")
            self._arrived.append(active)
            self._changed.notify()
        active.ended.wait()
        if active.error:
            raise active.error

    def _check(self, row: OutputRow) -> None:
        size = self.vocabulary_size
        if not row.prompt or any(not 0 <= token < size for token in row.prompt):
            raise BadRequestError(f"a prompt must have at least one token, each from 0 to {size - 1}")
        if len(row.prompt) + row.limit > self._context_length:
            raise BadRequestError(f"prompt and output exceed the context length of {self._context_length}")

    def _work(self) -> None:
        while self._wait():
            try:
                self._drop_stopped()
                self._read()
                self._advance()
            except Exception as error:  # noqa: BLE001 -- every waiting client receives it, and the thread continues
                self._abandon(error)
        self._abandon(RuntimeError("the model has been unloaded"))

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._arrived or self._reading is not None or self._running
            )
            return not self._closed

    def _read(self) -> None:
        """Read chunks of the rows that have arrived; a row joins when its prompt is read."""
        for _ in range(_CHUNKS_PER_STEP):
            active = self._reading or self._next()
            if active is None:
                return
            chunk = active.prompt[active.length : active.length + _CHUNK]
            logits = self._model.read(active.slot, chunk, active.length)
            active.length += len(chunk)
            if active.length == len(active.prompt):
                self._join(active, logits)
                self._reading = None

    def _next(self) -> ActiveRow | None:
        with self._changed:
            if not self._arrived or len(self._running) == self.parallel:
                return None
            self._reading = active = self._arrived.popleft()
        active.slot = len(self._running)
        return active

    def _join(self, active: ActiveRow, logits: Logits) -> None:
        if active.take(logits):
            active.end()
            return
        # Rows may have left while the prompt was read.
        if active.slot != len(self._running):
            self._model.move(active.slot, len(self._running), active.length)
        self._running.append(active)

    def _advance(self) -> None:
        """Add a token to every running row; finished rows leave."""
        running = self._running
        if not running:
            return
        logits = self._model.advance([each.token for each in running], [each.length for each in running])
        for active in running:
            active.length += 1
        finished = [index for index, active in enumerate(running) if active.take(logits[index])]
        for index in reversed(finished):
            self._leave(index)

    def _leave(self, index: int) -> None:
        """Remove a row; the last row moves to its slot, so that the running rows stay contiguous."""
        active, last = self._running[index], self._running.pop()
        if last is not active:
            self._model.move(len(self._running), index, last.length)
            self._running[index] = last
        active.end()

    def _drop_stopped(self) -> None:
        """Remove the rows of stopped requests."""
        for index in reversed(range(len(self._running))):
            if self._running[index].row.request.stopped:
                self._leave(index)
        if self._reading is not None and self._reading.row.request.stopped:
            self._reading.end()
            self._reading = None

    def _abandon(self, error: Exception) -> None:
        with self._changed:
            waiting = [*self._arrived, *self._running, *([self._reading] if self._reading else [])]
            self._arrived.clear()
        self._running, self._reading = [], None
        for active in waiting:
            active.end(error)

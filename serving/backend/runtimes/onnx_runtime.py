"""onnxruntime: int8 on a CPU, with continuous batching: a row joins and leaves between any two tokens."""

import threading
from collections import deque
from collections.abc import Sequence as Rows

from ..requests import BadRequestError, OutputRow
from .base import Options
from .onnx_model import OnnxModel
from .sampling import Logits
from .sequences import Generated, Scored, Sequence

# A prompt is read in pieces, so that a long one does not hold up the rows that run. The pieces do not depend
# on what else runs, and so neither does the text.
_PIECE = 128
_PIECES_PER_STEP = 2


class OnnxRuntime:
    """One thread that advances up to ``parallel`` rows; each call of ``generate`` brings one and waits."""

    max_rows = 1

    def __init__(self, options: Options) -> None:
        """Load the model and run a token through it, so that the first client does not pay for that."""
        self.parallel = options.parallel
        self._context_length = options.context_length
        self._model = OnnxModel(options, options.parallel)
        self.vocabulary_size = self._model.vocabulary_size
        self.eos_id = self._model.eos_id
        self._model.read(0, [self.eos_id], 0)
        self._arrived: deque[Sequence] = deque()
        self._reading: Sequence | None = None
        self._running: list[Sequence] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def generate(self, rows: Rows[OutputRow]) -> None:
        """Continue the one row; see ``Runtime``."""
        (row,) = rows
        self._check(row)
        self._run(Generated(row))

    def score(self, rows: Rows[OutputRow]) -> None:
        """Score the one row; see ``Runtime``. A token costs what generating it would."""
        (row,) = rows
        self._check(row)
        self._run(Scored(row))

    def close(self) -> None:
        """Stop the thread, after the token it is at, and free the model."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)
        del self._model

    def _run(self, sequence: Sequence) -> None:
        """Hand a sequence to the thread and wait for its end."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the model has been unloaded")
            self._arrived.append(sequence)
            self._changed.notify()
        sequence.ended.wait()
        if sequence.error:
            raise sequence.error

    def _check(self, row: OutputRow) -> None:
        size = self.vocabulary_size
        if not row.prompt or any(not 0 <= token < size for token in row.prompt):
            raise BadRequestError(f"a prompt needs at least one token, each from 0 to {size - 1}")
        if len(row.prompt) + row.limit > self._context_length:
            raise BadRequestError(f"prompt and answer exceed the context length of {self._context_length}")

    def _work(self) -> None:
        while self._wait():
            try:
                self._drop_stopped()
                self._read()
                self._advance()
            except Exception as error:  # noqa: BLE001 -- every waiting client gets it, and the thread lives on
                self._abandon(error)
        self._abandon(RuntimeError("the model has been unloaded"))

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._arrived or self._reading is not None or self._running
            )
            return not self._closed

    def _read(self) -> None:
        """Read some of what has arrived, and let rows join whose prompt is read."""
        for _ in range(_PIECES_PER_STEP):
            sequence = self._reading or self._next()
            if sequence is None:
                return
            piece = sequence.prompt[sequence.length : sequence.length + _PIECE]
            logits = self._model.read(sequence.slot, piece, sequence.length)
            sequence.length += len(piece)
            if sequence.length == len(sequence.prompt):
                self._join(sequence, logits)
                self._reading = None

    def _next(self) -> Sequence | None:
        with self._changed:
            if not self._arrived or len(self._running) == self.parallel:
                return None
            self._reading = sequence = self._arrived.popleft()
        sequence.slot = len(self._running)
        return sequence

    def _join(self, sequence: Sequence, logits: Logits) -> None:
        if sequence.take(logits):
            sequence.end()
            return
        # Rows may have left while this one was read.
        if sequence.slot != len(self._running):
            self._model.move(sequence.slot, len(self._running), sequence.length)
        self._running.append(sequence)

    def _advance(self) -> None:
        """Add a token to every running row; those that are finished leave."""
        running = self._running
        if not running:
            return
        logits = self._model.advance([each.token for each in running], [each.length for each in running])
        for sequence in running:
            sequence.length += 1
        finished = [index for index, sequence in enumerate(running) if sequence.take(logits[index])]
        for index in reversed(finished):
            self._leave(index)

    def _leave(self, index: int) -> None:
        """Take a row out; the last one takes its slot, so that the running rows stay side by side."""
        sequence, last = self._running[index], self._running.pop()
        if last is not sequence:
            self._model.move(len(self._running), index, last.length)
            self._running[index] = last
        sequence.end()

    def _drop_stopped(self) -> None:
        """Let go of rows whose client has gone."""
        for index in reversed(range(len(self._running))):
            if self._running[index].row.job.stopped:
                self._leave(index)
        if self._reading is not None and self._reading.row.job.stopped:
            self._reading.end()
            self._reading = None

    def _abandon(self, error: Exception) -> None:
        with self._changed:
            waiting = [*self._arrived, *self._running, *([self._reading] if self._reading else [])]
            self._arrived.clear()
        self._running, self._reading = [], None
        for sequence in waiting:
            sequence.end(error)

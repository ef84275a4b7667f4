"""Put rows of many requests together into batches, and bound how much waits.

Rows with equal settings and prompts of similar length run as one batch. A row whose seed the caller chose is
drawn only together with the rows of its own request, so that nothing a stranger sends changes its text.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable

from .requests import BadRequestError, OutputRow, Request, SamplingParams
from .response_sender import ResponseSender
from .runtimes.base import Runtime

# CTranslate2 reads the shortest prompt of a batch at once and the rest of the longer ones token by token:
# beyond this many tokens, two batches are cheaper than one.
LENGTH_SPREAD = 16
POLL_S = 0.1


class CancelledError(Exception):
    """The client has gone, or its time is up."""


class Unit:
    """Rows that must run together, and whether others may join them."""

    def __init__(self, rows: list[OutputRow], *, exclusive: bool) -> None:
        self.rows = rows
        self.exclusive = exclusive

    @property
    def settings(self) -> SamplingParams:
        """The settings, equal for all rows."""
        return self.rows[0].settings

    def may_join(self, head: "Unit") -> bool:
        """Say whether this unit has the same text in one batch with ``head`` as alone."""
        if self.exclusive or self.settings != head.settings:
            return False
        # In a batch of mixed lengths CTranslate2 counts prompt tokens that it read late as generated ones.
        spread = 0 if self.settings.looks_back else LENGTH_SPREAD
        return abs(len(self.rows[0].prompt) - len(head.rows[0].prompt)) <= spread


class Scheduler:
    """Threads that take batches off a bounded queue and run them, and one that notices who has gone."""

    def __init__(self, runtime: Runtime, outbox: ResponseSender, *, backlog: int) -> None:
        """Start the threads. At most ``backlog`` rows wait; more make ``submit`` block."""
        self._runtime = runtime
        self._outbox = outbox
        self._backlog = backlog
        self._waiting: deque[Unit] = deque()
        self._live: set[Request] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._look = threading.Event()
        targets = [self._work] * runtime.parallel + [self._watch]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Request) -> None:
        """Queue the rows of a job. Blocks while the queue is full: then Triton's own fills up and refuses."""
        units = list(split(job.rows, self._runtime.max_rows))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._rows_waiting() < self._backlog)
            self._live.add(job)
            self._waiting.extend(units)
            self._changed.notify_all()

    def look(self) -> None:
        """Look now who has gone."""
        self._look.set()

    def close(self) -> None:
        """Fail what waits or runs, and stop the threads."""
        with self._changed:
            self._closed = True
            jobs = list(self._live)
            self._waiting.clear()
            self._changed.notify_all()
        for job in jobs:
            job.fail(CancelledError("the server is shutting down"))
        for thread in self._threads:
            thread.join(timeout=10)

    def _rows_waiting(self) -> int:
        return sum(len(unit.rows) for unit in self._waiting)

    def _work(self) -> None:
        while (rows := self._take()) is not None:
            rows = [row for row in rows if not row.job.stopped]
            if rows:
                self._run(rows)

    def _take(self) -> list[OutputRow] | None:
        """Wait for work; return the rows of the next batch, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            head = self._waiting.popleft()
            rows = list(head.rows)
            if not head.exclusive:
                rows += self._mates(head, self._runtime.max_rows - len(rows))
            self._changed.notify_all()
            return rows

    def _mates(self, head: Unit, room: int) -> list[OutputRow]:
        mates = [unit for unit in self._waiting if unit.may_join(head)][:room]
        for unit in mates:
            self._waiting.remove(unit)
        return [row for unit in mates for row in unit.rows]

    def _run(self, rows: list[OutputRow]) -> None:
        """Run one batch; if it fails, run each of its rows that has no token yet alone."""
        try:
            self._call(rows)
        except Exception as error:  # noqa: BLE001 -- whatever a runtime raises belongs to the client that caused it
            jobs = {row.job for row in rows}
            for row in rows:
                if len(jobs) > 1 and not row.ids and not row.job.stopped:
                    self._run([row])
                elif not row.finished:
                    row.job.fail(error)
                    self._outbox.put(row)
        for row in rows:
            row.finish()

    def _call(self, rows: list[OutputRow]) -> None:
        if not rows[0].settings.score:
            self._runtime.generate(rows)
        elif hasattr(self._runtime, "score"):
            self._runtime.score(rows)
        else:
            raise BadRequestError("this runtime cannot score text: serve the model with ctranslate2")

    def _watch(self) -> None:
        """Stop the jobs whose client has gone or whose time is up.

        Asking Triton costs a round trip to its process (about 0.15 ms), so it is done here and not at every
        token.
        """
        while not self._closed:
            self._look.wait(POLL_S)
            self._look.clear()
            for job in list(self._live):
                if job.answered:
                    self._live.discard(job)
                elif time.monotonic() > job.expires:
                    job.fail(CancelledError("the request's timeout has passed"))
                elif job.reply.cancelled():
                    job.fail(CancelledError("the client cancelled the request"))
            self._drop_stopped()

    def _drop_stopped(self) -> None:
        with self._changed:
            keep = [unit for unit in self._waiting if not unit.rows[0].job.stopped]
            if len(keep) != len(self._waiting):
                self._waiting = deque(keep)
                self._changed.notify_all()


def split(rows: Iterable[OutputRow], max_rows: int) -> Iterable[Unit]:
    """Divide the rows of one request into units: seeded rows together, all others free to join any batch."""
    seeded: list[OutputRow] = []
    for row in rows:
        if row.settings.score and row.score_from < len(row.prompt):
            yield Unit([row], exclusive=False)
        elif row.limit == 0:
            row.finish()
        elif row.seed is None or row.settings.greedy:
            yield Unit([row], exclusive=False)
        elif seeded and (row.settings != seeded[0].settings or len(seeded) == max_rows):
            yield Unit(seeded, exclusive=True)
            seeded = [row]
        else:
            seeded.append(row)
    if seeded:
        yield Unit(seeded, exclusive=True)

"""Combines rows of several requests into batches, and bounds the number of rows that wait.

Streamed requests and whole ones share the runtime. Each kind has a queue and a largest number of batches of
its own, so that neither can occupy every place. The tokens of all running rows, with those that they may
still generate, stay within what the caches have memory for; the oldest row waits for room, and all younger
ones behind it.

Rows with equal parameters and prompts of similar length run as one batch. A row whose seed the caller chose
runs only with rows of its own request, so that no other request changes its text.
"""

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from .requests import BadRequestError, OutputRow, Request, SamplingParams
from .response_sender import ResponseSender
from .runtimes.base import Runtime

# CTranslate2 reads the shortest prompt of a batch at once and the rest of the longer ones token by token:
# beyond this difference in tokens, two batches are faster than one.
LENGTH_SPREAD = 16
POLL_S = 0.05


class CancelledError(Exception):
    """The client has cancelled the request or disconnected, or the request has timed out."""


class RowGroup:
    """Rows that must run together. Other groups may join their batch unless they are ``exclusive``."""

    def __init__(self, rows: list[OutputRow], *, exclusive: bool) -> None:
        self.rows = rows
        self.exclusive = exclusive

    @property
    def params(self) -> SamplingParams:
        """The parameters, which are equal for all rows."""
        return self.rows[0].params

    @property
    def whole(self) -> bool:
        """Return whether the rows' request is answered as a whole."""
        return self.rows[0].request.whole

    @property
    def tokens(self) -> int:
        """The tokens that the rows may have in the cache: their prompts, and all that they may generate."""
        return sum(tokens_of(row) for row in self.rows)

    def may_join(self, head: "RowGroup") -> bool:
        """Return whether this group generates the same text in one batch with ``head`` as alone."""
        if self.exclusive or self.whole != head.whole or self.params != head.params:
            return False
        # In a batch of mixed lengths CTranslate2 treats prompt tokens that it reads late as generated tokens.
        spread = 0 if self.params.depends_on_context else LENGTH_SPREAD
        return abs(len(self.rows[0].prompt) - len(head.rows[0].prompt)) <= spread


@dataclass(frozen=True, slots=True)
class Places:
    """The largest number of batches of each kind that run at the same time; ``None`` is no limit."""

    streams: int | None = None
    wholes: int | None = None

    def allow(self, *, whole: bool, running: int) -> bool:
        """Return whether another batch of this kind may start while ``running`` of them run."""
        most = self.wholes if whole else self.streams
        return most is None or running < most


class Scheduler:
    """Threads that take batches off a bounded queue and run them, and one that detects cancelled requests."""

    def __init__(
        self,
        runtime: Runtime,
        sender: ResponseSender,
        *,
        backlog: int,
        places: Places | None = None,
        tokens: int | None = None,
    ) -> None:
        """Start the threads. While ``backlog`` rows of a kind wait, ``submit`` blocks for that kind.

        ``tokens``: of all running rows at most; ``None`` is no limit.
        """
        self._runtime = runtime
        self._places = places or Places()
        self._running: Counter[bool] = Counter()
        self._tokens = sys.maxsize if tokens is None else tokens
        self._tokens_free = self._tokens
        self._sender = sender
        self._backlog = backlog
        self._waiting: deque[RowGroup] = deque()
        self._live: set[Request] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._check_now = threading.Event()
        targets = [self._work] * runtime.parallel + [self._watch]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        """Queue the rows of a request. Block while the queue is full, so that Triton's own queue fills up."""
        groups = list(split(request.rows, self._runtime.max_rows, self._tokens))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._rows_waiting(request.whole) < self._backlog)
            self._live.add(request)
            self._waiting.extend(groups)
            self._changed.notify_all()

    def load(self) -> dict[str, float]:
        """Return how much of the runtime is in use: batches, waiting rows, and tokens of its cache."""
        with self._changed:
            load = {
                "assist_engine_batches_running": float(sum(self._running.values())),
                "assist_engine_batches": float(self._runtime.parallel),
                "assist_engine_rows_waiting": float(sum(len(group.rows) for group in self._waiting)),
            }
            if self._tokens != sys.maxsize:
                load["assist_engine_cache_tokens"] = float(self._tokens)
                load["assist_engine_cache_tokens_used"] = float(self._tokens - self._tokens_free)
        return load

    def check_cancelled(self) -> None:
        """Check now, not at the next poll, which requests are cancelled."""
        self._check_now.set()

    def close(self) -> None:
        """Fail the requests that wait or run, and stop the threads."""
        with self._changed:
            self._closed = True
            requests = list(self._live)
            self._waiting.clear()
            self._changed.notify_all()
        for request in requests:
            request.fail(CancelledError("the server is shutting down"))
        for thread in self._threads:
            thread.join(timeout=10)

    def _rows_waiting(self, whole: bool) -> int:
        return sum(len(group.rows) for group in self._waiting if group.whole == whole)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            rows = [row for row in batch if not row.request.stopped]
            if rows:
                self._run(rows)
            with self._changed:
                self._running[batch[0].request.whole] -= 1
                self._tokens_free += sum(tokens_of(row) for row in batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[OutputRow] | None:
        """Wait for rows and return the next batch, or None when the scheduler is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._startable() is not None)
            head = self._startable()
            if self._closed or head is None:
                return None
            self._waiting.remove(head)
            self._running[head.whole] += 1
            rows = list(head.rows)
            if not head.exclusive:
                rows += self._joining(head, self._runtime.max_rows - len(rows))
            self._tokens_free -= sum(tokens_of(row) for row in rows)
            self._changed.notify_all()
            return rows

    def _startable(self) -> RowGroup | None:
        """Return the oldest group whose kind has a place left, once there is room for its tokens."""
        allowed = {
            kind: self._places.allow(whole=kind, running=self._running[kind]) for kind in (False, True)
        }
        oldest = next((group for group in self._waiting if allowed[group.whole]), None)
        # A row longer than the whole room runs alone: the runtime refuses what exceeds the context.
        room = oldest is not None and min(oldest.tokens, self._tokens) <= self._tokens_free
        return oldest if room else None

    def _joining(self, head: RowGroup, room: int) -> list[OutputRow]:
        groups, free = list[RowGroup](), self._tokens_free - head.tokens
        for group in self._waiting:
            if len(groups) < room and group.tokens <= free and group.may_join(head):
                groups.append(group)
                free -= group.tokens
        for group in groups:
            self._waiting.remove(group)
        return [row for group in groups for row in group.rows]

    def _run(self, rows: list[OutputRow]) -> None:
        """Run one batch; if it fails, run each of its rows that has no token yet alone."""
        try:
            self._call(rows)
        except Exception as error:  # noqa: BLE001 -- any error of a runtime belongs to the client that caused it
            requests = {row.request for row in rows}
            for row in rows:
                if len(requests) > 1 and not row.ids and not row.request.stopped:
                    self._run([row])
                elif not row.finished:
                    row.request.fail(error)
                    self._sender.put(row)
        for row in rows:
            row.finish()

    def _call(self, rows: list[OutputRow]) -> None:
        if not rows[0].params.score:
            self._runtime.generate(rows)
        elif hasattr(self._runtime, "score"):
            self._runtime.score(rows)
        else:
            raise BadRequestError("this runtime cannot score prompt tokens: serve the model with ctranslate2")

    def _watch(self) -> None:
        """Stop the requests that are cancelled or have timed out.

        Asking Triton costs a round trip to its process (about 0.15 ms), so this thread asks, and not at every
        token.
        """
        while not self._closed:
            self._check_now.wait(POLL_S)
            self._check_now.clear()
            for request in list(self._live):
                if request.answered:
                    self._live.discard(request)
                elif time.monotonic() > request.expires:
                    request.fail(CancelledError("the request's timeout has passed"))
                elif request.reply.cancelled():
                    request.fail(CancelledError("the client cancelled the request"))
            self._drop_stopped()

    def _drop_stopped(self) -> None:
        with self._changed:
            keep = [group for group in self._waiting if not group.rows[0].request.stopped]
            if len(keep) != len(self._waiting):
                self._waiting = deque(keep)
                self._changed.notify_all()


def tokens_of(row: OutputRow) -> int:
    """Return the tokens that a row may have in the cache: its prompt, and all that it may generate."""
    return len(row.prompt) + row.limit


def split(rows: Iterable[OutputRow], max_rows: int, max_tokens: int = sys.maxsize) -> Iterable[RowGroup]:
    """Divide the rows of one request into groups: seeded rows together, every other row on its own.

    A group has at most ``max_rows`` rows and ``max_tokens`` tokens, as ``tokens_of`` counts them.
    """
    seeded: list[OutputRow] = []
    for row in rows:
        if row.params.score and row.score_from < len(row.prompt):
            yield RowGroup([row], exclusive=False)
        elif row.limit == 0:
            row.finish()
        elif row.seed is None or row.params.greedy:
            yield RowGroup([row], exclusive=False)
        elif seeded and not _room_for(row, seeded, max_rows, max_tokens):
            yield RowGroup(seeded, exclusive=True)
            seeded = [row]
        else:
            seeded.append(row)
    if seeded:
        yield RowGroup(seeded, exclusive=True)


def _room_for(row: OutputRow, group: list[OutputRow], max_rows: int, max_tokens: int) -> bool:
    """Return whether ``row`` may run with the seeded rows of ``group``."""
    tokens = sum(map(tokens_of, [*group, row]))
    return row.params == group[0].params and len(group) < max_rows and tokens <= max_tokens

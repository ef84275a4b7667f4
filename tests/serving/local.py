"""The backend without Triton: a runtime, a scheduler and a reply that records what is sent."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from serving.backend.requests import OutputRow, Request, SamplingParams
from serving.backend.response_sender import ResponseSender
from serving.backend.runtimes import Options, load
from serving.backend.scheduler import Places, Scheduler
from serving.convert import convert
from testing.servers.triton import TINY
from testing.until import until

TOKENIZER = Tokenizer.from_file(str(TINY / "tokenizer.json"))
PROMPTS = [
    "def hello(",
    "import os\nimport sys\n\ndef main(argv):\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "    for i in range(",
    "try:\n    import json\nexcept",
    "x",
    "with open(filename,",
    "if __name__ ==",
]
SAMPLED = SamplingParams(top_k=0, top_p=0.95, temperature=0.9)


class Recorder:
    """A client that records what it receives."""

    def __init__(self) -> None:
        self.finished = threading.Event()
        self.error: Exception | None = None
        self.received: list[tuple[int, int, int, bool]] = []
        self.gone = False

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        self.received.append((row.index, start, stop, final))

    def done(self, request: Request) -> None:
        self.finished.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.finished.set()

    def cancelled(self) -> bool:
        return self.gone


class WatchedRow(OutputRow):
    """Counts what the runtime pushes, and lets a test do something then: an engine is held at a state, not at a time."""

    pushed = 0
    on_push: Callable[["WatchedRow"], object] | None = None

    def push(self, token: int, log_prob: float) -> bool:
        super().push(token, log_prob)
        self.pushed += 1
        if self.on_push is not None:
            self.on_push(self)
        return self.finished or self.request.stopped


def until_stopped(row: OutputRow) -> None:
    """Hold the engine until the row's request is stopped."""
    until(lambda: row.request.stopped, pause_s=0.002)


class Bench:
    """A scheduler over a runtime, with requests as one-liners."""

    def __init__(self, runtime, places: Places | None = None) -> None:
        self.runtime = runtime
        self.sender = ResponseSender(lambda error: pytest.fail(repr(error)))
        self.scheduler = Scheduler(runtime, self.sender, backlog=64, places=places)

    def request(
        self,
        prompt,
        *,
        n=1,
        limit=24,
        params=None,
        seed=None,
        stop=(),
        timeout_s=0.0,
        on_push=None,
        whole=False,
    ) -> Request:
        request = Request(Recorder(), self.sender.put, timeout_s, whole=whole)
        ids = TOKENIZER.encode(prompt).ids if isinstance(prompt, str) else prompt
        for index in range(n):
            each = None if seed is None else seed + index
            row = WatchedRow(request, index, ids, limit, params or SamplingParams(), each, stop)
            row.on_push = on_push
            request.rows.append(row)
        return request

    def submit(self, prompt, **options) -> Request:
        request = self.request(prompt, **options)
        self.scheduler.submit(request)
        return request

    def run(self, prompt, **options) -> list[list[int]]:
        return self.wait(self.submit(prompt, **options))

    @staticmethod
    def wait(request: Request) -> list[list[int]]:
        assert request.reply.finished.wait(200), "no answer"
        if request.reply.error:
            raise request.reply.error
        return [row.ids for row in request.rows]

    def close(self) -> None:
        self.scheduler.close()
        self.sender.close()
        self.runtime.close()


@contextlib.contextmanager
def bench(work: Path, name: str, precision: str, *, parallel: int = 2, max_rows: int = 16) -> Iterator[Bench]:
    """Convert tiny-codegen for a runtime and run it."""
    model = work / f"{name}-{precision}"
    if not model.exists():
        model.mkdir()
        convert(TINY, model, name, precision)
    made = Bench(load(name, Options(model, precision, 2048, max_rows, parallel, 1, "cpu", 0, print)))
    try:
        yield made
    finally:
        made.close()

"""JSON log lines on standard output, written by a thread of their own.

A pipe whose reader stalls must not stall completions, so lines go through a bounded queue; when it is full
they are dropped and counted. Exceptions are logged by type and source line, not by text, which may hold a
prompt (pydantic puts the offending input into its message). ``ASSIST_LOG_LEVEL=debug`` adds the text.
"""

import atexit
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, BinaryIO

import orjson
import structlog

MAX_FIELD = 256
_QUEUE_LINES = 10_000
_FLUSH_S = 2.0
_INTERVAL_S = 0.05


class LineWriter:
    """Writes lines in the background, many at a time; ``dropped`` counts lines lost to a full queue.

    The thread polls every 50 ms and is never woken: a wake-up per line would cost a request more time than
    the line does.
    """

    def __init__(self, stream: BinaryIO, size: int = _QUEUE_LINES) -> None:
        self._stream, self._size = stream, size
        self._lines: deque[bytes] = deque()
        self.dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def msg(self, line: bytes) -> None:
        """Queue one line; structlog calls this method for every level."""
        if len(self._lines) >= self._size:
            self.dropped += 1
        else:
            self._lines.append(line)

    debug = info = warning = error = critical = msg

    def close(self) -> None:
        """Write the queued lines, for two seconds at most."""
        self._closing.set()
        self._thread.join(_FLUSH_S)

    def _run(self) -> None:
        while not self._closing.wait(_INTERVAL_S):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self.dropped = self.dropped, 0
        if dropped:
            lines.append(orjson.dumps({"event": "log lines dropped", "level": "warning", "count": dropped}))
        if not lines:
            return
        # A broken pipe means that the log's reader has gone; the service continues without it.
        with suppress(OSError, ValueError):
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()


class _ToLines(logging.Handler):
    """Writes the standard library's records, including uvicorn's, in the same format."""

    def __init__(self, writer: LineWriter, *, with_text: bool) -> None:
        super().__init__()
        self._writer, self._with_text = writer, with_text

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {
            "timestamp": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": clean(record.getMessage(), 1000),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["causes"] = describe(record.exc_info[1], with_text=self._with_text)
        self._writer.msg(orjson.dumps(fields, default=repr))


def describe(error: BaseException, *, with_text: bool = False) -> list[str]:
    """Return an exception's chain as types and source lines; ``with_text`` adds the messages."""
    lines: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        frames = traceback.extract_tb(at.__traceback__)[-8:]
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
        lines.append(f"{type(at).__name__}{f': {clean(str(at))}' if with_text else ''} at {places}")
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return lines


def clean(text: str, limit: int = MAX_FIELD) -> str:
    """Return client text that is safe in a log: capped, with control characters and surrogates escaped."""
    short = text[:limit]
    return (
        short
        if short.isprintable()
        else short.encode("unicode_escape", "backslashreplace").decode("ascii")[:limit]
    )


def _render(_: object, __: str, event: MutableMapping[str, Any]) -> bytes:
    return orjson.dumps(event, default=repr)


def configure(level: str = "info", stream: BinaryIO | None = None) -> LineWriter:
    """Send all logs of the process to ``stream`` (standard output) as JSON lines; return the writer."""
    writer = LineWriter(stream or sys.stdout.buffer)
    atexit.register(writer.close)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ToLines(writer, with_text=level == "debug")]
    root.setLevel(number)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at info it logs a line per request
    return writer

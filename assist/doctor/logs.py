"""Errors in the logs of this machine's programs: recent ones that no later success has made history."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assist import causes
from assist.findings import Finding, ok

_RECENT_S = 3600.0
# Triton's own lines (--log-format=ISO8601): the time, then I, W, E or F.
_TRITON = re.compile(r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z) (?P<level>[IWEF]) ")
# On a CPU the absence of CUDA is not an error, although Triton logs it as one.
_HARMLESS = "CudaDriverHelper"


@dataclass(frozen=True)
class Line:
    """One line of a log: ``at`` in seconds since the epoch, None before the first line with a time."""

    text: str
    at: float | None
    is_error: bool


def iso(seconds: float | None) -> str:
    """Return a time as UTC in ISO 8601, to the second; empty for None and 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read(log: Path) -> Iterator[Line]:
    """Yield the last lines of a log in any of the programs' formats; one without a time has the last."""
    at: float | None = None
    for text in causes.tail(log):
        time_, is_error = _parsed(text)
        at = time_ or at
        yield Line(text, at, is_error)


def _parsed(text: str) -> tuple[float | None, bool]:
    if match := _TRITON.match(text):
        is_error = match["level"] in "EF" and _HARMLESS not in text
        return datetime.fromisoformat(match["time"]).timestamp(), is_error
    if text.startswith("{"):
        try:
            event = json.loads(text)
            return float(event["timestamp"]), str(event.get("level")) in {"error", "critical"}
        except (ValueError, KeyError, TypeError):
            return None, False
    return None, text.startswith(("Traceback ", "error: "))


def check(program: str, log: Path) -> Finding:
    """Return a warning for errors of the last hour that came after the last success."""
    name = f"log {program}"
    if not log.exists():
        return ok(name, "there is no log")
    lines = list(read(log))
    served = max((i for i, line in enumerate(lines) if causes.is_success(line.text)), default=-1)
    since = time.time() - _RECENT_S
    errors = [line for line in lines[served + 1 :] if line.is_error and (line.at or 0.0) > since]
    if not errors:
        return ok(name, "no error since its last start")
    last, cause = errors[-1], causes.of(log)
    text = cause.text if cause else f"{len(errors)} errors in the last hour"
    return Finding(
        name, "warning", text, f".run/bin/assist logs {program}", fault="log-errors", where=program,
        since=iso(errors[0].at), evidence=last.text[:300],
    )  # fmt: skip

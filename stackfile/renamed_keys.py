"""The former names of settings: accepted for one release, each with a warning that names the new key.

Version 0.2 renamed the settings. Remove the entries of ``RENAMED`` in 0.3.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stackfile.document import Document, Location, dotted
from stackfile.errors import Problem

_log = logging.getLogger("stackfile")

# The former location of a setting, and its new name in the same section.
RENAMED: dict[Location, str] = {
    ("limits", "hold_s"): "engine_wait_s",
    ("jobs", "result_s"): "result_ttl_s",
    ("jobs", "longest_s"): "max_runtime_s",
    ("jobs", "parallel"): "concurrency",
    ("gke", "authorised_networks"): "authorized_networks",
    ("hosts", "needs"): "requirements",
    ("hosts", "triton", "startup_s"): "startup_timeout_s",
    ("kubernetes", "triton", "startup_s"): "startup_timeout_s",
    ("kubernetes", "llama", "startup_s"): "startup_timeout_s",
    ("kubernetes", "loader", "wait_s"): "wait_timeout_s",
}
# Each renamed key is reported once in a process, however often its file is read.
_reported: set["RenamedKey"] = set()


@dataclass(frozen=True)
class RenamedKey:
    """A setting that a stack file still gives under its former name ``old``."""

    file: Path
    line: int
    old: str
    new: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.old} was renamed to {self.new}; use the new name,"
            " because the next release refuses the former one"
        )


def translate(document: Document) -> tuple[Document, list[RenamedKey], list[Problem]]:
    """Return ``document`` under the new names, the renamed keys, and a problem for each key given twice."""
    data, lines = copy.deepcopy(document.data), dict(document.lines)
    renamed, problems = [], []
    for old, name in RENAMED.items():
        section, new = _section(data, old), (*old[:-1], name)
        if section is None or old[-1] not in section:
            continue
        value = section.pop(old[-1])
        if name in section:
            remedy = f"is the former name of {dotted(new)}, which is set too; remove {dotted(old)}"
            problems.append(document.problem(old, remedy))
            continue
        section[name] = value
        lines |= {(*new, *at[len(old) :]): line for at, line in lines.items() if at[: len(old)] == old}
        renamed.append(RenamedKey(document.file, document.line(old), dotted(old), dotted(new)))
    return replace(document, data=data, lines=lines), renamed, problems


def report(renamed: list[RenamedKey]) -> None:
    """Log a warning for each key that this process has not reported yet."""
    for key in renamed:
        if key not in _reported:
            _reported.add(key)
            _log.warning("%s", key)


def send_warnings(to: Callable[[str], object]) -> None:
    """Pass warnings to a tool's own function, such as Pulumi's, instead of the log's handlers."""
    _log.handlers = [_Sender(to)]
    _log.propagate = False


class _Sender(logging.Handler):
    def __init__(self, to: Callable[[str], object]) -> None:
        super().__init__()
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        self._to(record.getMessage())


def _section(data: Any, old: Location) -> dict[str, Any] | None:  # noqa: ANN401  -- any YAML
    for part in old[:-1]:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None

"""The result of a check: one sentence of cause, one of remedy, for people and for programs alike."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One check's result. ``cause`` describes the state, ``remedy`` how to correct it."""

    id: str
    status: Status
    cause: str
    remedy: str = ""


def ok(check: str, cause: str) -> Finding:
    """Return that ``check`` passed."""
    return Finding(check, "ok", cause)


def problem(check: str, cause: str, remedy: str) -> Finding:
    """Return that ``check`` failed, with the remedy."""
    return Finding(check, "problem", cause, remedy)


def warning(check: str, cause: str, remedy: str) -> Finding:
    """Return a warning: the service works, and the exit status stays as it is."""
    return Finding(check, "warning", cause, remedy)


def unknown(check: str, cause: str, remedy: str) -> Finding:
    """Return that ``check`` could not be made."""
    return Finding(check, "unknown", cause, remedy)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 when every check passed, 1 when one failed, 2 when one could not be made."""
    statuses = {finding.status for finding in findings}
    return 1 if "problem" in statuses else 2 if "unknown" in statuses else 0


def document(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings as plain data for JSON."""
    verdict = {0: "ok", 1: "problem", 2: "unknown"}[exit_status(findings)]
    return {"status": verdict, "findings": [asdict(finding) for finding in findings]}

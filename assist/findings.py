"""What a check found: one sentence of cause, one of remedy, the same for a person and for a program."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One check's result. ``cause`` says what is (or what is wrong), ``remedy`` what to do about it."""

    id: str
    status: Status
    cause: str
    remedy: str = ""


def ok(check: str, cause: str) -> Finding:
    """All is well with ``check``."""
    return Finding(check, "ok", cause)


def problem(check: str, cause: str, remedy: str) -> Finding:
    """Something is wrong, and this is what mends it."""
    return Finding(check, "problem", cause, remedy)


def warning(check: str, cause: str, remedy: str) -> Finding:
    """All works, but somebody should look; the verdict stays as it is."""
    return Finding(check, "warning", cause, remedy)


def unknown(check: str, cause: str, remedy: str) -> Finding:
    """Nothing could be told, which is neither good nor bad news."""
    return Finding(check, "unknown", cause, remedy)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 when all is well, 1 when something is wrong, 2 when that could not be told."""
    statuses = {finding.status for finding in findings}
    return 1 if "problem" in statuses else 2 if "unknown" in statuses else 0


def document(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings as JSON has them."""
    verdict = {0: "ok", 1: "problem", 2: "unknown"}[exit_status(findings)]
    return {"status": verdict, "findings": [asdict(finding) for finding in findings]}

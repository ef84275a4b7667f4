"""The result of a check: what, where, since when, and what mends it, for people and for programs alike."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "problem", "unknown"]
RUNBOOKS = "docs/faults.md"


@dataclass(frozen=True)
class Finding:
    """One check's result. ``cause`` describes the state, ``remedy`` is the command that corrects it.

    Attributes:
        fault: its name in the table of faults (``assist.doctor.faults``); empty for what is well.
        host: the host of the inventory; empty on this machine.
        where: the process, the unit or the file.
        since: when it began, as UTC in ISO 8601; empty where nothing tells.
        evidence: the line of the log, or the value, that shows it.
        towards: the host at the other end of a path; empty for what is on one host.
        symptoms: what follows from it and ends with it.

    """

    id: str
    status: Status
    cause: str
    remedy: str = ""
    fault: str = ""
    host: str = ""
    where: str = ""
    since: str = ""
    evidence: str = ""
    towards: str = ""
    symptoms: tuple["Finding", ...] = ()

    @property
    def runbook(self) -> str:
        """Where the documentation explains the fault; empty for what is not in the table."""
        return f"{RUNBOOKS}#{self.fault}" if self.fault else ""


def ok(check: str, cause: str, host: str = "") -> Finding:
    """Return that ``check`` passed."""
    return Finding(check, "ok", cause, host=host)


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
    return {"status": verdict, "findings": [_plain(finding) for finding in findings]}


def _plain(finding: Finding) -> dict[str, Any]:
    symptoms = [_plain(symptom) for symptom in finding.symptoms]
    return asdict(finding) | {"runbook": finding.runbook, "symptoms": symptoms}

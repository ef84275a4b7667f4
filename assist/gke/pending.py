"""Finds what an interrupted `pulumi up` left half done: another `up` would create it a second time."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assist.findings import Finding, ok, problem, unknown

TIMEOUT_S = 60.0


def pending(export: dict[str, Any], stack: str) -> list[Finding]:
    """Return a problem for every unfinished operation in a ``pulumi stack export``."""
    operations = (export.get("deployment") or {}).get("pending_operations") or []
    return [_half_done(one, stack) for one in operations] or [ok("pending", "no operation was interrupted")]


def of_stack(stack: str, project: Path) -> list[Finding]:
    """Return the findings for the stack's state, which ``pulumi`` exports in the folder ``project``."""
    if shutil.which("pulumi") is None:
        return [
            unknown(
                "pending", "pulumi is not on PATH", "install Pulumi: https://www.pulumi.com/docs/install/"
            )
        ]
    command = ["pulumi", "stack", "export", "--stack", stack, "--non-interactive"]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return [unknown("pending", "pulumi timed out", "check the backend: pulumi whoami -v")]
    if done.returncode == 0:
        return pending(json.loads(done.stdout), stack)
    if "no stack named" in done.stderr:
        return [ok("pending", f"the stack {stack} does not exist yet")]
    remedy = "restore the last complete state: pulumi stack import --file BACKUP (docs/gke.md)"
    return [problem("pending", f"the state cannot be read: {' '.join(_lines(done.stderr))}", remedy)]


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _half_done(operation: dict[str, Any], stack: str) -> Finding:
    urn = str(operation["resource"]["urn"])
    kind, name = urn.split("::")[2].rpartition("$")[2], urn.split("::")[3]
    remedy = (
        f"check whether Google has this resource ({kind}, name {name} or {name}-*): if so, import it"
        f" (pulumi import --stack {stack}) or delete it at Google; then run:"
        f" pulumi refresh --clear-pending-creates --stack {stack}; only then: pulumi up"
    )
    return problem(
        f"pending {name}", f"{operation['type']} {kind} was interrupted; `up` would repeat it", remedy
    )

"""What a killed `pulumi up` left half done: a plain `up` afterwards would create it a second time."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assist.findings import Finding, ok, problem, unknown

TIMEOUT_S = 60.0


def pending(export: dict[str, Any], stack: str) -> list[Finding]:
    """Return a problem for every operation that a ``pulumi stack export`` shows as begun and not ended."""
    left = (export.get("deployment") or {}).get("pending_operations") or []
    return [_half_done(one, stack) for one in left] or [ok("pending", "no operation was cut off")]


def of_stack(stack: str, project: Path) -> list[Finding]:
    """Ask ``pulumi`` in ``project`` for the stack's state; a stack never made has nothing pending."""
    if shutil.which("pulumi") is None:
        return [
            unknown("pending", "pulumi is not on PATH", "install it: https://www.pulumi.com/docs/install/")
        ]
    command = ["pulumi", "stack", "export", "--stack", stack, "--non-interactive"]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return [unknown("pending", "pulumi did not answer", "check the backend: pulumi whoami -v")]
    if done.returncode == 0:
        return pending(json.loads(done.stdout), stack)
    if "no stack named" in done.stderr:
        return [ok("pending", f"the stack {stack} has not been made yet")]
    remedy = "restore the last whole state: pulumi stack import --file BACKUP (docs/gke.md)"
    return [problem("pending", f"the state cannot be read: {' '.join(_said(done.stderr))}", remedy)]


def _said(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _half_done(operation: dict[str, Any], stack: str) -> Finding:
    urn = str(operation["resource"]["urn"])
    kind, name = urn.split("::")[2].rpartition("$")[2], urn.split("::")[3]
    remedy = (
        f"look whether Google has it ({kind}, name {name} or {name}-*): if so, import it"
        f" (pulumi import --stack {stack}) or delete it there; then:"
        f" pulumi refresh --clear-pending-creates --stack {stack}; only then: pulumi up"
    )
    return problem(f"pending {name}", f"{operation['type']} {kind} was cut off; `up` would repeat it", remedy)

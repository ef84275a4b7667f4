"""``assist gke``: the checks before `pulumi up` spends money. Read only."""

import os
from pathlib import Path
from typing import Any, NoReturn

import typer
import yaml

from assist import report
from assist.findings import ok
from assist.gke.checks import checks
from assist.gke.google import Google, live, recorded
from assist.gke.pending import of_stack
from assist.options import Json, Project, Recorded, Stack
from assist.paths import Paths
from assist.terminal import fail, renamed
from stackfile import ResolvedStack, StackFileError, deadline, load_stack, stack_file

gke = typer.Typer(help="Checks before `pulumi up` spends money: read only.", no_args_is_help=True)


@gke.command(help="Deprecated: the former name of `assist plan` for stacks with target gke.")
def plan(
    stack: Stack = "gke-dev", project: Project = "", recorded_: Recorded = None, as_json: Json = False
) -> None:
    """Warn, then do what `assist plan` does."""
    renamed("assist gke plan", f"assist plan --stack {stack}")
    check(stack, project, recorded_, as_json=as_json)


@gke.command()
def pending(stack: Stack = "gke-dev", as_json: Json = False) -> None:
    """List what an interrupted `pulumi up` left half done, before the next run creates it a second time."""
    report.finish(of_stack(stack, Paths().source), as_json=as_json)


def check(stack: str, project: str, responses: Path | None, *, as_json: bool) -> NoReturn:
    """Check credentials, APIs, zones, quotas, driver and price; print the findings and exit.

    ``responses`` is a file of recorded responses to use in place of Google's.
    """
    source = Paths().source
    file = stack_file(stack, source)
    resolved = _resolved(file)
    project = project or _configured(file)
    if not project:
        fail(
            "Google's project is not set. Set it with: pulumi config set gcp:project ID --stack"
            f" {resolved.name}, or --project ID",
            2,
        )
    try:
        with recorded(responses) if responses else live() as http:
            findings = checks(resolved, Google(project, http))
    except ValueError as error:
        fail(str(error), 2)
    findings.append(ok("deadline", deadline.words(resolved)))
    if responses is None:
        findings += of_stack(resolved.name, source)
    report.finish(findings, as_json=as_json)


def _resolved(file: Path) -> ResolvedStack:
    try:
        return load_stack(file)
    except StackFileError as error:
        fail(str(error), 2)


def _configured(stack: Path) -> str:
    """Return the project in Pulumi's configuration beside the stack file, or an empty string."""
    try:
        text = (stack.parent / f"Pulumi.{stack.stem}.yaml").read_text(encoding="utf-8")
        document: Any = yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return os.environ.get("CLOUDSDK_CORE_PROJECT", "")
    config = document.get("config") if isinstance(document, dict) else None
    return str((config or {}).get("gcp:project", ""))

"""The `assist gke` commands: look before `pulumi up` spends."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from assist import findings, report
from assist.gke.checks import checks
from assist.gke.google import Google, live, recorded
from assist.gke.options import Answers, Project
from assist.gke.pending import of_stack
from assist.paths import Paths
from assist.terminal import fail, out
from stackfile import StackFileError, load_stack
from stackfile.resolved import ResolvedStack

gke = typer.Typer(help="Look before `pulumi up` spends: read only.", no_args_is_help=True)

Stack = Annotated[str, typer.Option(envvar="STACK", help="A name in stacks/, or a stack file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


@gke.command()
def plan(
    stack: Stack = "gke-dev", project: Project = "", recorded_: Answers = None, as_json: Json = False
) -> None:
    """Check credentials, APIs, zones, quotas, driver and price. Exit 0: go, 1: stop, 2: could not tell."""
    source = Paths().source
    file = Path(stack) if stack.endswith((".yaml", ".yml")) else source / "stacks" / f"{stack}.yaml"
    service = _service(file)
    named = project or _configured(file)
    if not named:
        fail(
            f"No project is named: pulumi config set gcp:project ID --stack {service.name}, or --project ID",
            2,
        )
    try:
        with recorded(recorded_) if recorded_ else live() as http:
            found = checks(service, Google(named, http))
    except ValueError as error:
        fail(str(error), 2)
    if recorded_ is None:
        found += of_stack(service.name, source)
    _finish(found, as_json)


@gke.command()
def pending(stack: Stack = "gke-dev", as_json: Json = False) -> None:
    """Say what a killed `pulumi up` left half done, before the next one makes it a second time."""
    _finish(of_stack(stack, Paths().source), as_json)


def _service(file: Path) -> ResolvedStack:
    try:
        return load_stack(file)
    except StackFileError as error:
        fail(str(error), 2)


def _configured(stack: Path) -> str:
    """Return the project that Pulumi is configured with beside the stack file, or nothing."""
    try:
        text = (stack.parent / f"Pulumi.{stack.stem}.yaml").read_text(encoding="utf-8")
        document: Any = yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return os.environ.get("CLOUDSDK_CORE_PROJECT", "")
    config = document.get("config") if isinstance(document, dict) else None
    return str((config or {}).get("gcp:project", ""))


def _finish(found: list[findings.Finding], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(findings.document(found), indent=1))
    else:
        out.print(report.findings_table(found))
    raise typer.Exit(findings.exit_status(found))

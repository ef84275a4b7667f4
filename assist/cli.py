"""The ``assist`` command: a table of contents; what each command does stands in the module of its name.

What only some commands need is imported where they need it, as imports take most of a command's time and
`make up` runs several. ``lazy`` does the same for groups of commands.
"""

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from assist.deployment import Deployment, Overrides, current, resolve
from assist.gke.options import Answers, Project
from assist.lazy import LazyGroup
from assist.paths import Paths
from assist.terminal import err, fail, out
from stackfile import StackFileError

if TYPE_CHECKING:
    from assist.findings import Finding

app = typer.Typer(
    cls=LazyGroup, help="Plan, run and look after one deployment.", no_args_is_help=True, add_completion=False
)

Stack = Annotated[str, typer.Option(envvar="STACK", help="A name in stacks/, or a stack file.")]
Host = Annotated[str, typer.Option(envvar="HOST", help="Address of the gateway, in place of the stack's.")]
Port = Annotated[
    str,
    typer.Option(envvar=["PORT", "API_EXTERNAL_PORT"], help="Port of the gateway, in place of the stack's."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
Unpinned = Annotated[
    bool,
    typer.Option(
        envvar="ALLOW_UNPINNED", help="Take a model's files on the source's word where no checksum is known."
    ),
]


@app.command("up")
def up_(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would change.")
    ] = False,
    allow_unpinned: Unpinned = False,
) -> None:
    """Start the service on this machine, make a real completion, and say how to use it."""
    from assist import up

    deployment = _resolve(stack, host, port)
    request = up.Request(stack, host, port, as_json=as_json, check=dry_run, allow_unpinned=allow_unpinned)
    raise typer.Exit(up.run(deployment, request, out, err))


@app.command()
def plan(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    project: Project = "",
    recorded: Answers = None,
    as_json: Json = False,
) -> None:
    """Say what `up` would change, and change nothing. For target gke: what stops it, and what it costs."""
    if _resolve(stack, host, port).service.target == "gke":
        from assist.gke.cli import plan as plan_gke

        plan_gke(stack, project, recorded, as_json)
    if recorded:
        fail(f"--recorded replays Google's answers, and {stack} is not for Google: leave it out", 2)
    up_(stack, host, port, as_json, dry_run=True)


@app.command("preflight")
def preflight_(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    as_json: Json = False,
    allow_unpinned: Unpinned = False,
) -> None:
    """Look for everything that would make a start fail; exit 1 when there is something."""
    from assist import preflight

    _finish(preflight.run(_resolve(stack, host, port), allow_unpinned=allow_unpinned), as_json)


@app.command()
def down() -> None:
    """Stop the service: the gateway first, once it has answered what it accepted, then Triton."""
    from assist.processes import own, stop

    layout = Paths()
    if not own(layout):
        out.print("Nothing runs; nothing to stop.")
        return
    with out.status("Stopping: the gateway answers what it has accepted"):
        killed = stop(layout)
    out.print(f"Stopped{'; had to kill ' + ', '.join(killed) if killed else ''}.")


@app.command("doctor")
def doctor_(as_json: Json = False) -> None:
    """Say what is up, what is not, why, what to do. Exit 0: well, 1: something wrong, 2: could not tell."""
    from assist import doctor

    _finish(doctor.examine(Paths()), as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Do the same as `doctor`."""
    doctor_(as_json)


@app.command()
def verify(timeout: Annotated[float, typer.Option(help="Seconds to wait for readiness.")] = 180.0) -> None:
    """Wait until the service is ready and make one real completion; exit 1 with the reason if that fails."""
    from assist import doctor, probe

    deployment = _current()
    try:
        probe.wait_until_ready(deployment, timeout)
    except probe.NotServingError as error:
        fail(str(error))
    finding = doctor.completion(deployment)
    if finding.status != "ok":
        fail(finding.cause)
    out.print(finding.cause)


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="gateway, triton, supervisord; all by default.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines arrive.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
) -> None:
    """Show the logs."""
    known = {path.stem: path for path in sorted(Paths().log.glob("*.log"))}
    if not known:
        fail("There are no logs yet. Start the service with: make up")
    if program and program not in known:
        fail(f"There is no log of {program!r}; there are: {', '.join(known)}")
    chosen = [known[program]] if program else list(known.values())
    command = [
        "tail",
        f"--lines={lines}",
        *(["--follow=name", "--retry"] if follow else []),
        *map(str, chosen),
    ]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command("version")
def version_() -> None:
    """Print the version."""
    out.print(_version())


def _finish(found: "list[Finding]", as_json: bool) -> None:
    from assist import findings, report

    if as_json:
        typer.echo(json.dumps(findings.document(found), indent=1))
    else:
        out.print(report.findings_table(found))
    raise typer.Exit(findings.exit_status(found))


def _resolve(stack: str, host: str, port: str) -> Deployment:
    try:
        return resolve(stack, Paths(), Overrides.of(host, port))
    except (StackFileError, ValueError) as error:
        fail(str(error), 2)


def _current() -> Deployment:
    try:
        deployment = current(Paths())
    except (StackFileError, ValueError) as error:
        fail(str(error), 2)
    return deployment or fail("Nothing has been started here. Start it with: make up")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ai-assist")
    except PackageNotFoundError:  # a clone on sys.path has no package metadata
        import tomllib

        project = tomllib.loads((Paths().source / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])


def main() -> None:
    """Run the command line."""
    os.umask(0o077)
    try:
        app(prog_name="assist")
    except KeyboardInterrupt:
        sys.exit(130)

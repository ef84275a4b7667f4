"""The ``assist`` command: one function for each command; the work is in the modules that they call.

Commands import what only they need, because imports take most of a command's time and `make up` runs
several commands. ``lazy`` does the same for groups of commands.
"""

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from assist.deployment import Deployment, Overrides, current, resolve
from assist.lazy import LazyGroup
from assist.options import Json, Project, Recorded, Stack
from assist.paths import Paths
from assist.terminal import err, fail, out, renamed, warn
from stackfile import StackFileError, renamed_keys
from stackfile.version import VERSION

if TYPE_CHECKING:
    from assist.findings import Finding

app = typer.Typer(cls=LazyGroup, help="Plan, run and look after one deployment.", no_args_is_help=True)

Host = Annotated[str, typer.Option(envvar="HOST", help="Address of the gateway. Default: the stack's.")]
Port = Annotated[
    str, typer.Option(envvar=["PORT", "API_EXTERNAL_PORT"], help="Port of the gateway. Default: the stack's.")
]
Unpinned = Annotated[
    bool, typer.Option(envvar="ALLOW_UNPINNED", help="Download model files that have no recorded checksum.")
]


def _print_version(flag: bool) -> None:
    if flag:
        out.print(VERSION)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Plan, run and look after one deployment."""


@app.command("up")
def up_(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")
    ] = False,
    allow_unpinned: Unpinned = False,
) -> None:
    """Start the service on this machine, make a real completion, and print how to use the service."""
    from assist import up

    _need_clone()
    deployment = _resolve(stack, host, port)
    request = up.Request(stack, host, port, as_json=as_json, check=dry_run, allow_unpinned=allow_unpinned)
    raise typer.Exit(up.run(deployment, request, out, err))


@app.command()
def plan(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    project: Project = "",
    recorded: Recorded = None,
    as_json: Json = False,
) -> None:
    """Print what `up` would change, and change nothing. Target gke: check Google's side and the price.

    With target gke, exit 0: `pulumi up` can start; 1: something prevents that; 2: unknown.
    """
    if _resolve(stack, host, port).stack.target == "gke":
        from assist.gke import cli as gke

        gke.check(stack, project, recorded, as_json=as_json)
    if recorded:
        fail(f"--recorded replays Google's responses, but {stack} does not use Google: remove --recorded", 2)
    up_(stack, host, port, as_json, dry_run=True)


@app.command("show")
def show_(stack: Stack = "local", host: Host = "", port: Port = "", as_json: Json = False) -> None:
    """Print the resolved stack: every setting with its value, and the model's and accelerator's facts."""
    from assist import show

    show.show(_resolve(stack, host, port).stack, out, as_json=as_json)


@app.command("preflight")
def preflight_(
    stack: Stack = "local",
    host: Host = "",
    port: Port = "",
    as_json: Json = False,
    allow_unpinned: Unpinned = False,
) -> None:
    """Check that the service can start; exit 1 when something prevents that."""
    from assist import preflight

    _finish(preflight.run(_resolve(stack, host, port), allow_unpinned=allow_unpinned), as_json)


@app.command()
def down() -> None:
    """Stop the service: the gateway first, after its accepted requests, then Triton; and its Prometheus."""
    from assist.monitoring import Prometheus
    from assist.processes import own, stop

    layout = Paths()
    if Prometheus(layout).stop():
        out.print("Prometheus has stopped; its series stay until make clean.")
    if not own(layout):
        out.print("Nothing runs; nothing to stop.")
        return
    with out.status("Stopping: the gateway finishes its accepted requests"):
        killed = stop(layout)
    out.print(f"Stopped{'; had to kill ' + ', '.join(killed) if killed else ''}.")


@app.command("doctor")
def doctor_(
    stack: Annotated[
        str, typer.Option(envvar="STACK", help="Stack to examine. Default: what runs on this machine.")
    ] = "",
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Target hosts: only this host; repeatable.")
    ] = None,
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", help="Target hosts: inventory. Default: the one with this stack."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare the sizes of the model's files, not their checksums.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong, the cause before its symptoms, and the command that mends it; change nothing.

    Exit 0: healthy, 1: something is wrong, 2: could not tell.
    """
    from assist import doctor, report
    from assist.doctor.targets import choose

    try:
        target = choose(stack, Paths(), host or [], inventory or [], quick=quick)
    except (StackFileError, ValueError) as error:
        fail(str(error), 2)
    with err.status("Examining"):
        findings = doctor.examine(target)
    report.finish_diagnosis(findings, as_json=as_json)


@app.command(help="Deprecated: the former name of `doctor`.")
def status(as_json: Json = False) -> None:
    """Warn, then do what `doctor` does."""
    renamed("assist status", "assist doctor")
    doctor_(as_json=as_json)


@app.command()
def verify(timeout: Annotated[float, typer.Option(help="Seconds to wait for readiness.")] = 180.0) -> None:
    """Wait until the service is ready and make a real completion; exit 1 with the reason if that fails."""
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
    program: Annotated[
        str,
        typer.Argument(
            help="gateway, triton or supervisord; trial-gateway or trial-triton: of the last change. Default:"
            " all that run."
        ),
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines as they arrive.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
) -> None:
    """Print the end of the logs."""
    running, tried = (sorted(folder.glob("*.log")) for folder in (Paths().log, Paths().trial_log))
    files = {path.stem: path for path in [*running, *tried]}
    if not files:
        fail("There are no logs yet. Start the service with: make up")
    if program and program not in files:
        fail(f"There is no log of {program!r}; choose one of: {', '.join(files)}")
    chosen = [files[program]] if program else running
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
    out.print(VERSION)


def _finish(findings: "list[Finding]", as_json: bool) -> NoReturn:
    from assist import report

    report.finish(findings, as_json=as_json)


def _need_clone() -> None:
    """End with the remedy where the command was installed as a wheel, without the playbooks and locks."""
    if not (Paths().source / "ansible" / "site.yml").is_file():
        fail(
            "This command needs a clone of the project: clone the project and run make up there.",
            2,
        )


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
    return deployment or fail("The service has not been started here. Start it with: make up")


def main() -> None:
    """Run the command line."""
    os.umask(0o077)
    renamed_keys.send_warnings(warn)
    try:
        app(prog_name="assist")
    except KeyboardInterrupt:
        sys.exit(130)

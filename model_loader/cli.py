"""Downloads models into a store; a model is complete and verified before a server sees it.

Exit codes: 0 success or nothing to do, 1 failure (the previous model is still served), 2 wrong usage.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from model_loader import commands, maintenance, options
from model_loader.errors import LoaderError
from model_loader.progress import FOLLOWED, Bar, Followed, Reporter
from model_loader.sources import archive
from model_loader.sources.factory import make_sources
from model_loader.sources.protocols import Source
from model_loader.sources.transport import HttpOptions
from model_loader.store.store import Store

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

FETCH_HELP = """Download a model, verify it, publish it and switch `current` to it.

Examples:\n
  model-loader fetch tiny-codegen --store .run/store --runtime ctranslate2 --precision int8\n
  HF_TOKEN=... model-loader fetch codegen-350M-mono --store /srv/models --allow-unpinned\n
  model-loader fetch codegen-350M-mono --store /srv/models --source https://mirror.example/codegen-350M-mono
"""
IMPORT_HELP = """Import a model from a folder or an uncompressed tar file, for sites without a network.

Examples:\n
  model-loader import codegen-2B-multi codegen-2B-multi.tar --store /srv/models\n
  model-loader import my-model ./folder --store /srv/models --manifest manifest.json
"""
VERIFY_HELP = """Re-hash published revisions and list damaged files; --repair downloads only these again.

Examples:\n
  model-loader verify --store /srv/models\n
  model-loader verify codegen-2B-multi --store /srv/models --repair
"""
LIST_HELP = """List models, their revisions, and the revision that `current` points to.

Example:\n
  model-loader list --store /srv/models --json
"""
PRUNE_HELP = """Remove revisions that neither `current` nor `previous` points to, and files left by dead runs.

Example:\n
  model-loader prune --store /srv/models --dry-run
"""


def _print_version(requested: bool) -> None:
    if requested:
        from stackfile.version import VERSION  # the loader also runs where no stack file is read

        typer.echo(f"model-loader {VERSION}")
        raise typer.Exit


@app.callback()
def main_options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Take the options that precede the command."""


@contextmanager
def _reporting(as_json: bool) -> Iterator[Reporter]:
    plain = as_json or not sys.stderr.isatty()
    with Followed(os.environ.get(FOLLOWED)) if plain else Bar() as reporter, _report_failure(reporter):
        _end_on_signals(reporter)
        yield reporter


@contextmanager
def _report_failure(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except LoaderError as error:
        reporter.event("failed", reason=str(error), kind=type(error).__name__)
        raise typer.Exit(1) from None


def _end_on_signals(reporter: Reporter) -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        # The store is crash-only: an immediate exit is as safe as SIGKILL, and waits for no thread.
        reporter.event("stopped", signal=signal.Signals(number).name)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


@app.command(help=FETCH_HELP)
def fetch(
    model: options.Model,
    store: options.StoreFolder,
    revision: options.Revision = None,
    address: options.SourceAddress = None,
    manifest: options.ManifestFile = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    accept_licence: options.AcceptLicence = None,
    allow_unpinned: options.AllowUnpinned = False,
    allow_formats: options.AllowFormats = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    allow_http: options.AllowHttp = False,
    redirect_hosts: options.RedirectHosts = None,
    tuning: options.Tuning = None,
    rehash: options.Rehash = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Fetch one model."""
    _check_both_or_none(runtime, precision)
    setup = commands.Setup(store, options.tuning(tuning), allow_unpinned, allow_formats, deep=rehash)
    hosts = frozenset(redirect_hosts) if redirect_hosts else None
    http = HttpOptions(allow_http=allow_http, ca=ca, stall_s=setup.tuning["stall"], hosts=hosts)
    with _reporting(as_json) as reporter:
        commands.check_licence(model, accept_licence)
        run = setup.run(reporter)
        plan = commands.plan_for(model, revision, manifest)
        sources = make_sources(
            address, model, plan.revision, http, token_file, run.options.limits.connections
        )
        commands.run_fetch(plan, sources, run, (runtime, precision), dry_run=dry_run)


@app.command("import", help=IMPORT_HELP)
def import_(
    model: options.Model,
    path: Annotated[Path, typer.Argument(help="Folder or tar file with the model's files.")],
    store: options.StoreFolder,
    revision: options.Revision = None,
    manifest: options.ManifestFile = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    accept_licence: options.AcceptLicence = None,
    allow_unpinned: options.AllowUnpinned = False,
    allow_formats: options.AllowFormats = None,
    tuning: options.Tuning = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Import one model."""
    _check_both_or_none(runtime, precision)
    setup = commands.Setup(store, options.tuning(tuning), allow_unpinned, allow_formats)
    with _reporting(as_json) as reporter:
        commands.check_licence(model, accept_licence)
        run = setup.run(reporter)
        source = archive.open_import(path)
        plan = commands.plan_for_import(model, revision, manifest, path, source, trust=allow_unpinned)
        commands.run_fetch(plan, [source], run, (runtime, precision), dry_run=dry_run)


@app.command(help=VERIFY_HELP)
def verify(
    store: options.StoreFolder,
    model: options.OptionalModel = None,
    repair: Annotated[bool, typer.Option("--repair", help="Download only the damaged files again.")] = False,
    address: options.SourceAddress = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    allow_http: options.AllowHttp = False,
    tuning: options.Tuning = None,
    as_json: options.Json = False,
) -> None:
    """Verify models."""
    setup = commands.Setup(store, options.tuning(tuning), allow_unpinned=True)
    http = HttpOptions(allow_http=allow_http, ca=ca, stall_s=setup.tuning["stall"])

    def sources_of(name: str, revision: str) -> tuple[Source, ...]:
        return make_sources(address, name, revision, http, token_file, 8)

    with _reporting(as_json) as reporter:
        run = setup.run(reporter)
        intact = [
            maintenance.verify(name, run, sources_of if repair else None)
            for name in maintenance.select(run.store, model)
        ]
    if not all(intact):
        raise typer.Exit(1)


@app.command("list", help=LIST_HELP)
def list_(
    store: options.StoreFolder, model: options.OptionalModel = None, as_json: options.Json = False
) -> None:
    """List models."""
    with _reporting(as_json) as reporter:
        for row in maintenance.rows(Store(store), model):
            reporter.event("revision", **row)


@app.command(help=PRUNE_HELP)
def prune(
    store: options.StoreFolder,
    model: options.OptionalModel = None,
    older_than_h: Annotated[
        float, typer.Option(min=0, help="Remove only what is older than this, in hours.")
    ] = 1.0,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Remove unreferenced revisions."""
    with _reporting(as_json) as reporter:
        for name, revision in maintenance.prune(Store(store), model, older_than_h * 3600.0, dry_run=dry_run):
            reporter.event("would remove" if dry_run else "removed", model=name, revision=revision)


def _check_both_or_none(runtime: str | None, precision: str | None) -> None:
    if (runtime is None) != (precision is None):
        raise typer.BadParameter("--runtime and --precision must be given together")


def main() -> None:
    """Run the command line."""
    app(prog_name="model-loader")

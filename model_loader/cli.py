"""``model-loader``: brings models into a store, complete and verified or not at all.

Exit codes: 0 done or nothing to do, 1 failed (the old model still serves), 2 wrong usage.
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
from model_loader.progress import JsonLines, Reporter
from model_loader.sources import archive
from model_loader.sources.factory import make_source
from model_loader.sources.protocols import Source
from model_loader.sources.transport import HttpOptions
from model_loader.store.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

FETCH_HELP = """Fetch a model, verify it, publish it and switch `current` to it.

Examples:\n
  model-loader fetch tiny-codegen --store .run/store --runtime ctranslate2 --precision int8\n
  HF_TOKEN=... model-loader fetch codegen-350M-mono --store /srv/models --allow-unpinned\n
  model-loader fetch codegen-350M-mono --store /srv/models --source https://mirror.example/codegen-350M-mono
"""
IMPORT_HELP = """Import a model from a folder or a plain tar file: the way into a site without network.

Examples:\n
  model-loader import codegen-2B-multi bundle.tar --store /srv/models\n
  model-loader import my-model ./folder --store /srv/models --manifest manifest.json
"""
VERIFY_HELP = """Re-hash published revisions and name what is wrong; --repair fetches only the bad files.

Examples:\n
  model-loader verify --store /srv/models\n
  model-loader verify codegen-2B-multi --store /srv/models --repair
"""
LIST_HELP = """List models, revisions and what `current` names.

Example:\n
  model-loader list --store /srv/models --json
"""
PRUNE_HELP = """Remove revisions that neither `current` nor `previous` names, and dead runs' leftovers.

Example:\n
  model-loader prune --store /srv/models --dry-run
"""


@contextmanager
def _reporting(as_json: bool) -> Iterator[Reporter]:
    if as_json or not sys.stderr.isatty():
        reporter: Reporter = JsonLines()
        _end_on_signals(reporter)
        with _refusals(reporter):
            yield reporter
        return
    from model_loader.bar import Bar

    with Bar() as bar, _refusals(bar):
        _end_on_signals(bar)
        yield bar


@contextmanager
def _refusals(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except LoaderError as error:
        reporter.event("failed", reason=str(error), kind=type(error).__name__)
        raise typer.Exit(1) from None


def _end_on_signals(reporter: Reporter) -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        # The store is crash-only: leaving at once is as safe as SIGKILL, and no thread has to be waited for.
        reporter.event("stopped", signal=signal.Signals(number).name)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


@app.command(help=FETCH_HELP)
def fetch(
    model: options.Model,
    store: options.StoreFolder,
    revision: options.Revision = None,
    source: options.Where = None,
    manifest: options.ManifestFile = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    allow_unpinned: options.Unpinned = False,
    allow_format: options.Formats = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    allow_http: options.AllowHttp = False,
    redirect_host: options.Hosts = None,
    tuning: options.Tuning = None,
    verify: options.Deep = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Fetch one model."""
    _both_or_none(runtime, precision)
    setup = commands.Setup(store, options.knobs(tuning), allow_unpinned, allow_format, deep=verify)
    hosts = frozenset(redirect_host) if redirect_host else None
    http = HttpOptions(allow_http=allow_http, ca=ca, stall_s=setup.knobs["stall"], hosts=hosts)
    with _reporting(as_json) as reporter:
        run = setup.run(reporter)
        plan = commands.wanted(model, revision, manifest)
        origin = make_source(source, model, plan.revision, http, token_file, run.options.limits.connections)
        commands.carry_out(plan, origin, run, (runtime, precision), dry_run=dry_run)


@app.command("import", help=IMPORT_HELP)
def import_(
    model: options.Model,
    bundle: Annotated[Path, typer.Argument(help="Folder or tar file.")],
    store: options.StoreFolder,
    revision: options.Revision = None,
    manifest: options.ManifestFile = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    allow_unpinned: options.Unpinned = False,
    allow_format: options.Formats = None,
    tuning: options.Tuning = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Import one model."""
    _both_or_none(runtime, precision)
    setup = commands.Setup(store, options.knobs(tuning), allow_unpinned, allow_format)
    with _reporting(as_json) as reporter:
        run = setup.run(reporter)
        origin = archive.open_bundle(bundle)
        plan = commands.wanted_of_bundle(model, revision, manifest, bundle, origin, trust=allow_unpinned)
        commands.carry_out(plan, origin, run, (runtime, precision), dry_run=dry_run)


@app.command(help=VERIFY_HELP)
def verify(
    store: options.StoreFolder,
    model: options.OptionalModel = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch only the bad files again.")] = False,
    source: options.Where = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    allow_http: options.AllowHttp = False,
    tuning: options.Tuning = None,
    as_json: options.Json = False,
) -> None:
    """Verify models."""
    setup = commands.Setup(store, options.knobs(tuning), allow_unpinned=True)
    http = HttpOptions(allow_http=allow_http, ca=ca, stall_s=setup.knobs["stall"])

    def origin(name: str, revision: str) -> Source:
        return make_source(source, name, revision, http, token_file, 8)

    with _reporting(as_json) as reporter:
        run = setup.run(reporter)
        bad = [
            maintenance.verify(name, run, origin if repair else None)
            for name in maintenance.chosen(run.store, model)
        ]
    if not all(bad):
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
        float, typer.Option(min=0, help="Leave what is younger than this many hours.")
    ] = 1.0,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Remove what nothing names."""
    with _reporting(as_json) as reporter:
        for name, revision in maintenance.prune(Store(store), model, older_than_h * 3600.0, dry_run=dry_run):
            reporter.event("would remove" if dry_run else "removed", model=name, revision=revision)


def _both_or_none(runtime: str | None, precision: str | None) -> None:
    if (runtime is None) != (precision is None):
        raise typer.BadParameter("--runtime and --precision go together")


def main() -> None:
    """Run the command line."""
    app(prog_name="model-loader")

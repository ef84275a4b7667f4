"""``assist bundle``: everything that a stack needs, for machines that reach no index (docs/air-gap.md)."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from assist.bundle import archive, contents, keys, signatures
from assist.bundle import build as builds
from assist.bundle import install as installs
from assist.bundle.__main__ import summary
from assist.bundle.errors import BundleError
from assist.bundle.manifest import Manifest
from assist.bundle.paths import BundlePaths
from assist.deployment import resolve
from assist.paths import Paths
from assist.terminal import err, fail, out
from model_loader.progress import JsonLines
from stackfile import StackFileError

bundle = typer.Typer(
    help="Bundles: all that a stack needs in one signed archive, for machines without a network.",
    no_args_is_help=True,
)

DEFAULT_KEY = Path.home() / ".config" / "ai-assist" / "bundle.key"
Stack = Annotated[str, typer.Option(envvar="STACK", help="A name in stacks/, or a stack file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
Archive = Annotated[Path, typer.Argument(dir_okay=False, help="The bundle.")]
PublicKey = Annotated[
    Path, typer.Option("--key", envvar="ASSIST_BUNDLE_KEY", help="Public key of whoever built the bundle.")
]


@bundle.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where the private key goes.")] = DEFAULT_KEY,
) -> None:
    """Make the pair of keys that bundles are signed with. ASSIST_BUNDLE_PASSPHRASE encrypts the private one.

    Keep the private key where bundles are built; bring the .pub file to each machine once, not with a bundle.
    """
    with _refusals():
        public = keys.generate(file)
    err.print(f"Private key: {file}\nPublic key:  {keys.public_name(file)}", highlight=False, soft_wrap=True)
    typer.echo(public.name)


@bundle.command("list")
def list_(stack: Stack = "local", as_json: Json = False) -> None:
    """Say what a bundle of the stack would hold; nothing is downloaded or written."""
    with _refusals():
        builder = _builder(stack, lambda _: None)
        wheels = [f"{package.name}=={package.version}" for package in builder.locked()]
    found = asdict(builder.contents)
    if as_json:
        typer.echo(json.dumps({"stack": stack, "wheels": wheels, **found}, indent=1))
        return
    table = Table("what", "which", "from")
    for what, which, source in _rows(wheels, builder.contents):
        table.add_row(what, which, source)
    out.print(table)


def _rows(wheels: list[str], found: contents.Contents) -> Iterator[tuple[str, str, str]]:
    yield "wheels", ", ".join(wheels), ", ".join(found.locks)
    yield "Debian packages", ", ".join(found.packages), "the roles' tasks, Triton's Python"
    yield "model", found.model, "the stack and the catalogue"
    yield "images", ", ".join(found.images), "the stack"
    yield "Pulumi's plugins", "as the SDKs among the wheels name them" if found.plugins else "", "the wheels"


@bundle.command()
def build(
    stack: Stack = "local",
    output: Annotated[
        Path | None, typer.Option(help="The archive; ai-assist-STACK.bundle by default.")
    ] = None,
    private: Annotated[Path, typer.Option("--key", help="The private key to sign with.")] = DEFAULT_KEY,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out images and plugins that are not on this machine."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what it would hold.")] = False,
    as_json: Json = False,
) -> None:
    """Build the bundle of a stack, with what is on this machine and what must be downloaded."""
    if dry_run:
        list_(stack, as_json=as_json)
        return
    with _refusals():
        signer = keys.load(private)
        builder = _builder(stack, lambda step: err.print(f"Gathering {step}", highlight=False))
        target = (output or Path(f"ai-assist-{builder.deployment.service.name}.bundle")).absolute()
        with _bar("Writing") as progress:
            manifest = builder.build(target, signer, progress, allow_missing=allow_missing)
    _tell(manifest, "built", as_json, {"archive": str(target), "archive_bytes": target.stat().st_size})


@bundle.command()
def verify(file: Archive, public: PublicKey, as_json: Json = False) -> None:
    """Check the signature and every file, reading the archive once; nothing is unpacked."""
    with _refusals(), _bar("Verifying") as progress:
        trusted = signatures.read_public(public)
        manifest = archive.verify(file, trusted, progress(archive.manifest_of(file, trusted).size))
    _tell(manifest, "verified", as_json, {})


@bundle.command()
def install(file: Archive, public: PublicKey, as_json: Json = False) -> None:
    """Verify the bundle and put it in place; from then on `make up` and the playbooks take all from it."""
    layout = Paths()
    with _refusals(), _bar("Installing") as progress:
        trusted = signatures.read_public(public)
        counted = progress(2 * archive.manifest_of(file, trusted).size)
        manifest = installs.install(file, trusted, BundlePaths.of(layout), counted)
    _tell(manifest, "installed", as_json, {"folder": str(BundlePaths.of(layout).link)})


def _builder(stack: str, say: builds.Say) -> builds.Builder:
    deployment = resolve(stack, Paths())
    return builds.Builder(deployment, contents.wanted(deployment), say, JsonLines(sys.stderr))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StackFileError as error:
        fail(str(error), 2)
    except BundleError as error:
        fail(str(error))


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int], archive.Progress]]:
    shown = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*shown, console=err, transient=True, disable=not err.is_terminal) as bar:

        def start(total: int) -> archive.Progress:
            task = bar.add_task(what, total=total)
            return lambda count: bar.advance(task, count)

        yield start


def _tell(manifest: Manifest, done: str, as_json: bool, more: dict[str, object]) -> None:
    if as_json:
        typer.echo(json.dumps({**summary(manifest, done), **more, "folders": manifest.sizes()}, indent=1))
        return
    sizes = ", ".join(f"{folder} {size / 2**20:,.1f}" for folder, size in manifest.sizes().items() if size)
    out.print(f"{done}: stack {manifest.stack}, {len(manifest.files)} files; MiB: {sizes}", highlight=False)
    for line in manifest.missing:
        out.print(f"missing: {line}", highlight=False, soft_wrap=True)
    for name, value in more.items():
        out.print(f"{name}: {value}", highlight=False, soft_wrap=True)

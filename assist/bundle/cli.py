"""``assist bundle``: everything that a stack needs, for machines without an index (docs/air-gap.md)."""

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

from assist.bundle import archive, contents, signatures, signing_keys
from assist.bundle import build as builds
from assist.bundle import install as installs
from assist.bundle.__main__ import summary
from assist.bundle.errors import BundleError
from assist.bundle.manifest import BundleManifest
from assist.bundle.paths import BundlePaths
from assist.deployment import resolve
from assist.options import Json, Stack
from assist.paths import Paths
from assist.terminal import err, fail, out, warn
from model_loader.progress import JsonLines
from stackfile import StackFileError

bundle = typer.Typer(
    help="Bundles: everything that a stack needs in one signed archive, for machines without a network.",
    no_args_is_help=True,
)

DEFAULT_KEY = Path.home() / ".config" / "ai-assist" / "bundle.key"
# The default of version 0.1. Remove in 0.3.
FORMER_KEY = Path.home() / ".config" / "assist-infra" / "bundle.key"
Archive = Annotated[Path, typer.Argument(dir_okay=False, help="The bundle.")]
PublicKey = Annotated[
    Path, typer.Option("--key", envvar="ASSIST_BUNDLE_KEY", help="Public key of the bundle's builder.")
]


@bundle.command()
def key(
    file: Annotated[Path, typer.Argument(help="The private key's new file.")] = DEFAULT_KEY,
) -> None:
    """Make the pair of keys that signs bundles. ASSIST_BUNDLE_PASSPHRASE encrypts the private key.

    Keep the private key where bundles are built; copy the .pub file to each machine once, not with a bundle.
    """
    if file == DEFAULT_KEY and FORMER_KEY.exists():
        fail(f"There is a key in {FORMER_KEY} already. Move it: {_move_key()}. Or name another file.")
    with _refusals():
        public = signing_keys.generate(file)
    lines = f"Private key: {file}\nPublic key:  {signing_keys.public_name(file)}"
    err.print(lines, highlight=False, soft_wrap=True)
    typer.echo(public.name)


@bundle.command("list")
def list_(stack: Stack = "local", as_json: Json = False) -> None:
    """List what a bundle of the stack would contain; nothing is downloaded or written."""
    with _refusals():
        builder = _builder(stack, lambda _: None)
        wheels = [f"{package.name}=={package.version}" for package in builder.locked()]
    if as_json:
        listing = {"stack": stack, "wheels": wheels, **asdict(builder.contents)}
        typer.echo(json.dumps(listing, indent=1))
        return
    table = Table("part", "content", "source")
    for part, content, source in _rows(wheels, builder.contents):
        table.add_row(part, content, source)
    out.print(table)


def _rows(wheels: list[str], parts: contents.Contents) -> Iterator[tuple[str, str, str]]:
    yield "wheels", ", ".join(wheels), ", ".join(parts.locks)
    yield "Debian packages", ", ".join(parts.packages), "the roles' tasks, Triton's Python"
    yield "model", parts.model, "the stack and the catalogue"
    yield "images", ", ".join(parts.images), "the stack"
    yield "Pulumi's plugins", "those of the SDKs among the wheels" if parts.plugins else "", "the wheels"


@bundle.command()
def build(
    stack: Stack = "local",
    output: Annotated[Path | None, typer.Option(help="The archive. Default: ai-assist-STACK.bundle.")] = None,
    private: Annotated[Path, typer.Option("--key", help="The private key that signs.")] = DEFAULT_KEY,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out images and plugins that are not on this machine."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the contents.")] = False,
    as_json: Json = False,
) -> None:
    """Build the bundle of a stack from this machine's files and downloads."""
    if dry_run:
        list_(stack, as_json=as_json)
        return
    with _refusals():
        signer = signing_keys.load(_private_key(private))
        builder = _builder(stack, lambda step: err.print(f"Gathering {step}", highlight=False))
        target = (output or Path(f"ai-assist-{builder.deployment.stack.name}.bundle")).absolute()
        with _bar("Writing") as progress:
            manifest = builder.build(target, signer, progress, allow_missing=allow_missing)
    _print_result(
        manifest, "built", as_json, {"archive": str(target), "archive_bytes": target.stat().st_size}
    )


@bundle.command()
def verify(file: Archive, public: PublicKey, as_json: Json = False) -> None:
    """Check the signature and every file, reading the archive once; nothing is unpacked."""
    with _refusals(), _bar("Verifying") as progress:
        trusted = signatures.read_public(public)
        manifest = archive.verify(file, trusted, progress(archive.manifest_of(file, trusted).size))
    _print_result(manifest, "verified", as_json, {})


@bundle.command()
def install(file: Archive, public: PublicKey, as_json: Json = False) -> None:
    """Verify and install the bundle; from then on `make up` and the playbooks take everything from it."""
    layout = Paths()
    with _refusals(), _bar("Installing") as progress:
        trusted = signatures.read_public(public)
        counted = progress(2 * archive.manifest_of(file, trusted).size)
        manifest = installs.install(file, trusted, BundlePaths.of(layout), counted)
    _print_result(manifest, "installed", as_json, {"folder": str(BundlePaths.of(layout).link)})


def _private_key(file: Path) -> Path:
    """Return the key to sign with: ``file``, or the key at the former default while it has not been moved."""
    if file != DEFAULT_KEY or file.exists() or not FORMER_KEY.exists():
        return file
    warn(f"the key in {FORMER_KEY} is used; the next release only looks for {DEFAULT_KEY}: {_move_key()}")
    return FORMER_KEY


def _move_key() -> str:
    return f"mkdir -p {DEFAULT_KEY.parent} && mv {FORMER_KEY.parent}/bundle.* {DEFAULT_KEY.parent}/"


def _builder(stack: str, say: builds.Say) -> builds.Builder:
    deployment = resolve(stack, Paths())
    return builds.Builder(deployment, contents.of(deployment), say, JsonLines(sys.stderr))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StackFileError as error:
        fail(str(error), 2)
    except BundleError as error:
        fail(str(error))


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int], archive.Progress]]:
    shown = (TextColumn(title), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*shown, console=err, transient=True, disable=not err.is_terminal) as bar:

        def start(total: int) -> archive.Progress:
            task = bar.add_task(title, total=total)
            return lambda count: bar.advance(task, count)

        yield start


def _print_result(manifest: BundleManifest, done: str, as_json: bool, more: dict[str, object]) -> None:
    if as_json:
        typer.echo(json.dumps({**summary(manifest, done), **more, "folders": manifest.sizes()}, indent=1))
        return
    sizes = ", ".join(f"{folder} {size / 2**20:,.1f}" for folder, size in manifest.sizes().items() if size)
    out.print(f"{done}: stack {manifest.stack}, {len(manifest.files)} files; MiB: {sizes}", highlight=False)
    for line in manifest.missing:
        out.print(f"missing: {line}", highlight=False, soft_wrap=True)
    for name, value in more.items():
        out.print(f"{name}: {value}", highlight=False, soft_wrap=True)

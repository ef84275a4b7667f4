"""``assist models package``: a model's files as wheels, for a package index that a site already has."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from assist import catalogue_writer
from assist.options import Json
from assist.paths import Paths
from assist.terminal import err, fail, out, warn
from model_loader import plan as plans
from model_loader import wheel_maker
from model_loader.errors import LoaderError, PlanError
from model_loader.progress import Bar, Reporter, Silent
from model_loader.store import store as stores
from model_loader.store import verify
from stackfile import StackFileError, catalogue

Row = dict[str, str | int]
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmg]i?)?b?$", re.IGNORECASE)


def package(
    model: Annotated[str, typer.Argument(help="Model id; its current revision in the store is packaged.")],
    part_size: Annotated[
        str,
        typer.Option(help="Bytes of the model in one wheel, such as 90MB or 64MiB (indexes have a limit)."),
    ] = "90MB",
    folder: Annotated[Path, typer.Option("--out", help="Folder for the wheels.")] = Path("wheels"),
    name: Annotated[
        str, typer.Option(help="Start of the packages' names. Default: ai-assist-model-MODEL.")
    ] = "",
    version: Annotated[str, typer.Option(help="Version of the packages.")] = "1.0.0",
    store: Annotated[Path | None, typer.Option(help="Model store. Default: that of `make up`.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Record the index in the catalogue, for review.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the wheels and write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make wheels that carry a verified model, and print the catalogue's `index` block for them.

    The wheels contain data only. Upload them to your own index (`twine upload`, `uv publish`); the model's
    licence must allow that. The same model and options give the same bytes.

    Example: assist models package qwen2.5-coder-0.5b-instruct-Q4_K_M --part-size 90MB --out wheels
    """
    try:
        revision, manifest = _verified(stores.Store(store or Paths().store), model)
        name = name or f"ai-assist-model-{re.sub(r'[^a-z0-9]+', '-', model.lower()).strip('-')}"
        wheels = wheel_maker.plan_wheels(manifest.files, name, version, _bytes(part_size))
        if dry_run:
            planned: list[Row] = [{"file": wheel.filename, "bytes": wheel.size} for wheel in wheels]
            _show(planned, None, recorded=False, as_json=as_json)
            return
        sums = _built(model, revision, wheels, folder, as_json=as_json)
        block = wheel_maker.index_block(wheels, sums)
        if write:
            catalogue_writer.record_index(catalogue.file_of(model), model, block)
    except (LoaderError, StackFileError, catalogue_writer.CatalogueError) as error:
        fail(str(error))
    rows: list[Row] = [
        {"file": str(folder / wheel.filename), "bytes": wheel.size, "sha256": sums[wheel.filename]}
        for wheel in wheels
    ]
    _show(rows, block, recorded=write, as_json=as_json)


def _built(
    model: str, revision: Path, wheels: tuple[wheel_maker.PlannedWheel, ...], folder: Path, *, as_json: bool
) -> dict[str, str]:
    """Write the wheels and return their checksums; restrictions of the licence are said first."""
    facts = catalogue.models().get(model)
    if facts and facts.restrictions:
        warn(f"licence {facts.licence}: {facts.restrictions}")
    with _progress(as_json=as_json) as reporter:
        reporter.expect(sum(wheel.size for wheel in wheels))
        return wheel_maker.build(
            revision, wheels, folder, facts.licence if facts else "unknown", reporter.add
        )


def _verified(store: stores.Store, model: str) -> tuple[Path, stores.Manifest]:
    """Return the revision folder, re-hashed. Raises PlanError when it is missing, StoreError for a fault."""
    found = store.find(plans.from_catalogue(model)) if model in catalogue.models() else None
    if found is None:
        link = store.folder(model) / "current"
        manifest = stores.read(link.resolve()) if link.is_symlink() else None
        if manifest is None or model in catalogue.models():
            raise PlanError(
                f"the store {store.root} does not have {model}; fetch it first:"
                f" model-loader fetch {model} --store {store.root}"
            )
        found = link.resolve(), manifest
    if faults := verify.check(*found):
        named = ", ".join(f"{fault.path} ({fault.kind})" for fault in faults)
        raise PlanError(f"{model} in the store is damaged: {named}. Run `model-loader verify --repair`.")
    return found


def _bytes(text: str) -> int:
    match = _SIZE.match(text.strip())
    if match is None:
        raise PlanError(f"--part-size {text!r} is not a size; write it as 90MB or 64MiB.")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


@contextlib.contextmanager
def _progress(*, as_json: bool) -> Iterator[Reporter]:
    if as_json or not err.is_terminal:
        yield Silent()
        return
    with Bar("packaging") as bar:
        yield bar


def _show(wheels: list[Row], block: wheel_maker.Index | None, *, recorded: bool, as_json: bool) -> None:
    if as_json:
        document = {"wheels": wheels} if block is None else {"wheels": wheels, "index": block}
        typer.echo(json.dumps(document | {"recorded": recorded}, indent=1))
        return
    for row in wheels:
        out.print(*row.values(), markup=False, highlight=False, soft_wrap=True)
    if recorded:
        out.print("The index is recorded in the catalogue.")
    elif block is not None:
        text = io.StringIO()
        catalogue_writer.dump_index(block, text)
        out.print("For the model's `sources` in the catalogue:", highlight=False)
        out.print(text.getvalue(), markup=False, highlight=False, soft_wrap=True, end="")

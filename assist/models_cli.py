"""``assist models``: the models in the catalogue and in the store."""

import json
from typing import Annotated

import typer
from rich.table import Table

from assist import catalogue_writer
from assist.models_package import package
from assist.options import Json
from assist.paths import Paths
from assist.terminal import fail, out
from model_loader.errors import LoaderError
from model_loader.sources import pin as pins
from stackfile import StackFileError, catalogue

models = typer.Typer(help="Models: those in the catalogue, and those in the store.", no_args_is_help=True)
models.command()(package)


@models.command("list")
def list_(as_json: Json = False) -> None:
    """List the catalogue's models, and the revisions that are in the store."""
    entries = _catalogue()
    stored = {name: _stored(name) for name in entries}
    if as_json:
        facts = {
            name: {**model.model_dump(mode="json"), "stored": stored[name]} for name, model in entries.items()
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    table = Table("model", "licence", "parameters", "context", "checksums", "in the store")
    for name, model in entries.items():
        size, pinned = f"{model.parameters / 1e6:,.0f} M", "known" if model.pinned else "not pinned"
        licence = model.licence if model.commercial else f"{model.licence} (not commercial)"
        table.add_row(name, licence, size, str(model.context_length), pinned, ", ".join(stored[name]))
    out.print(table)
    for terms in dict.fromkeys(model.terms for model in entries.values() if model.restrictions):
        out.print(terms, highlight=False)


@models.command()
def pin(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit. Default: the catalogue's own.")] = "",
) -> None:
    """Fetch the checksums of a model's files from the hub and record them in the catalogue, for review.

    From then on the catalogue, not the hub, decides what is served. HF_ENDPOINT and HF_TOKEN apply.
    """
    entries = _catalogue()
    if model not in entries:
        fail(f"{model!r} is not in the catalogue; choose one of: {', '.join(entries)}")
    facts = entries[model]
    if facts.hub is None or facts.hub.hub is None:
        fail(f"{model} has no hub among its sources; the catalogue already has its checksums.")
    requested = revision or facts.hub.revision or facts.revision
    try:
        resolved = pins.resolve(
            pins.hub(facts.hub.hub, requested), [file.path for file in facts.files], requested
        )
        changed = catalogue_writer.record(
            catalogue.DIRECTORY / "models.yaml", model, resolved.revision, resolved.files
        )
    except (LoaderError, catalogue_writer.CatalogueError) as error:
        fail(str(error))
    out.print(
        f"{model} is pinned to {resolved.revision}." if changed else f"{model} was pinned already.",
        highlight=False,
    )


def _catalogue() -> dict[str, catalogue.ModelFacts]:
    try:
        return catalogue.models()
    except StackFileError as error:
        fail(str(error))


def _stored(model: str) -> list[str]:
    folder = Paths().store / model
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink())

"""``assist models``: what the catalogue knows and what the store holds."""

import json
from typing import Annotated

import typer
from rich.table import Table

from assist import pin as pins
from assist.paths import Paths
from assist.terminal import fail, out
from model_loader.errors import LoaderError
from model_loader.sources import pin as loader_pin
from stackfile import StackFileError, catalogue

models = typer.Typer(help="Models: what the catalogue knows, and what is here.", no_args_is_help=True)


@models.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the catalogue, and which revisions are in the store."""
    known = _catalogue()
    here = {name: _stored(name) for name in known}
    if as_json:
        facts = {
            name: {**model.model_dump(mode="json"), "stored": here[name]} for name, model in known.items()
        }
        typer.echo(json.dumps(facts, indent=1))
        return
    table = Table("model", "licence", "parameters", "context", "checksums", "in the store")
    for name, model in known.items():
        size, pinned = f"{model.parameters / 1e6:,.0f} M", "known" if model.pinned else "not pinned"
        table.add_row(name, model.licence, size, str(model.context_length), pinned, ", ".join(here[name]))
    out.print(table)


@models.command()
def pin(
    model: str,
    revision: Annotated[
        str, typer.Option(help="Branch, tag or commit; the catalogue's own by default.")
    ] = "",
) -> None:
    """Ask the hub for the checksums of a model's files and record them in the catalogue, for review.

    From then on the catalogue, not the hub, says what may be served. HF_ENDPOINT and HF_TOKEN are honoured.
    """
    known = _catalogue()
    if model not in known:
        fail(f"{model!r} is not in the catalogue; it has: {', '.join(known)}")
    facts = known[model]
    if facts.repository is None:
        fail(f"{model} is part of this project; its checksums stand in the catalogue already.")
    wanted = revision or facts.revision
    try:
        found = loader_pin.resolve(
            loader_pin.hub(facts.repository, wanted), [file.path for file in facts.files], wanted
        )
        changed = pins.record(catalogue.DIRECTORY / "models.yaml", model, found.revision, found.files)
    except (LoaderError, pins.PinError) as error:
        fail(str(error))
    out.print(
        f"{model} is pinned to {found.revision}." if changed else f"{model} was pinned already.",
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

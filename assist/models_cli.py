"""``assist models``: what the catalogue knows and what the store holds."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from assist.layout import Layout
from spec import SpecError, catalogue

models = typer.Typer(help="Models: what the catalogue knows, and what is here.", no_args_is_help=True)
console = Console()


@models.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the catalogue, and which revisions are in the store."""
    try:
        known = catalogue.models()
    except SpecError as error:
        Console(stderr=True).print(str(error), markup=False)
        raise typer.Exit(2) from error
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
    console.print(table)


def _stored(model: str) -> list[str]:
    folder = Layout().store / model
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink())

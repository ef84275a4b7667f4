"""``assist models``: the models in the catalogue and in the store; a module for each command."""

import typer

from assist.models_add import add, remove
from assist.models_list import list_
from assist.models_package import package
from assist.models_pin import pin

models = typer.Typer(help="Models: those in the catalogue, and those in the store.", no_args_is_help=True)
models.command("list")(list_)
models.command()(add)
models.command()(remove)
models.command()(pin)
models.command()(package)

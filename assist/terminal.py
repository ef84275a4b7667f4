"""Where the command writes: results to standard output, everything else to standard error."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

# A pipe has no width; a table there stays readable in a wide log and is never cut at 80 columns.
_WIDTH = 160

out = Console(width=None if sys.stdout.isatty() else _WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)


def fail(message: str, status: int = 1) -> NoReturn:
    """Say why, as it is, and exit: 1 when it can't be done, 2 when it was asked wrongly."""
    err.print(message, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(status)

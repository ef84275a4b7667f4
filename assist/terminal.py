"""Where commands write: results to standard output, everything else to standard error."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

# A pipe has no width; tables there stay readable in a wide log instead of being cut at 80 columns.
_WIDTH = 160

out = Console(width=None if sys.stdout.isatty() else _WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)


def fail(message: str, status: int = 1) -> NoReturn:
    """Print the message as it is and exit: with 1 when the command failed, with 2 when its input is wrong."""
    err.print(message, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(status)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    err.print(f"warning: {message}", highlight=False, markup=False, soft_wrap=True)


def renamed(old: str, new: str) -> None:
    """Warn that a command was renamed; the next release removes the former name."""
    warn(f"`{old}` was renamed to `{new}`; use the new name, because the next release removes the former one")

"""Command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Stack = Annotated[
    str, typer.Option(envvar="STACK", help="Name of a stack in stacks/, or path of a stack file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Project = Annotated[
    str,
    typer.Option(envvar="GOOGLE_CLOUD_PROJECT", help="Google project. Default: Pulumi's gcp:project."),
]
Recorded = Annotated[
    Path | None,
    typer.Option(
        "--recorded", exists=True, dir_okay=False, help="Replay Google's responses from a JSON file."
    ),
]

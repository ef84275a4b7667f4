"""What `assist plan` and `assist gke plan` both ask about Google."""

from pathlib import Path
from typing import Annotated

import typer

Project = Annotated[
    str,
    typer.Option(envvar="GOOGLE_CLOUD_PROJECT", help="The Google project; Pulumi's gcp:project by default."),
]
Answers = Annotated[
    Path | None,
    typer.Option("--recorded", exists=True, dir_okay=False, help="Replay Google's answers from a JSON file."),
]

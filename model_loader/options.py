"""The command line's options, said once and shared by its commands."""

from pathlib import Path
from typing import Annotated

import typer

MIB = 1024 * 1024
KNOBS: dict[str, tuple[float, str]] = {
    "connections": (8, "at once"),
    "deadline": (6 * 3600.0, "seconds for the whole run"),
    "stall": (30.0, "seconds of silence or of too low a rate that end a connection"),
    "min-rate": (1024.0, "bytes/s below which a connection is cut and retried"),
    "tries": (6, "without progress before giving up"),
    "wait-cap": (60.0, "longest wait between tries in seconds, whatever the server asks"),
    "margin-mib": (64, "free space to leave"),
    "segment-kib": (32 * 1024, "size of one range"),
}

Model = Annotated[str, typer.Argument(help="Model id of the catalogue, such as tiny-codegen.")]
OptionalModel = Annotated[str | None, typer.Argument(help="Model id; every model when left out.")]
StoreFolder = Annotated[Path, typer.Option("--store", help="The model store's folder.", envvar="MODEL_STORE")]
Revision = Annotated[
    str | None, typer.Option(help="Another revision than the catalogue's (drops its checksums).")
]
Where = Annotated[
    str | None,
    typer.Option("--source", help="hub+https://host, https://base/address, file:///folder or a folder."),
]
ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", help="Take files and checksums from this file.")
]
Unpinned = Annotated[
    bool, typer.Option("--allow-unpinned", help="Trust the source for files without checksum.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--allow-format", help="Allow a further suffix, such as .bin; its files need a checksum."),
]
Runtime = Annotated[
    str | None, typer.Option(help="Also convert for this runtime: ctranslate2, llama_cpp or onnxruntime.")
]
Precision = Annotated[str | None, typer.Option(help="Precision of the conversion, such as int8 or Q8_0.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines even on a terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the hub token (else HF_TOKEN, HF_TOKEN_PATH).")
]
Ca = Annotated[Path | None, typer.Option("--ca", help="PEM file of further trusted authorities.")]
AllowHttp = Annotated[bool, typer.Option("--allow-http", help="Allow plain http on a trusted network.")]
Hosts = Annotated[
    list[str] | None, typer.Option("--redirect-host", help="Follow redirects to these hosts only (repeat).")
]
Tuning = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help=f"Tune as KEY=NUMBER: {', '.join(f'{k} ({v[1]})' for k, v in KNOBS.items())}."
    ),
]
Deep = Annotated[bool, typer.Option("--verify", help="Re-hash what is already there and mend it.")]


def knobs(given: list[str] | None) -> dict[str, float]:
    """Return every tuning value, defaults replaced by ``KEY=NUMBER`` texts. Raises typer.BadParameter."""
    values = {name: default for name, (default, _) in KNOBS.items()}
    for text in given or []:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if (
            name not in KNOBS
            or not 0 <= value < 1e12
            or (value < 1 and name in {"connections", "tries", "segment-kib"})
        ):
            raise typer.BadParameter(f"--set {text}: want KEY=NUMBER with one of {', '.join(KNOBS)}")
        values[name] = value
    return values

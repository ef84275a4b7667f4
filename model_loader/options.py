"""The options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

MIB = 1024 * 1024
TUNING: dict[str, tuple[float, str]] = {
    "connections": (8, "connections at the same time"),
    "deadline": (6 * 3600.0, "seconds for the whole run"),
    "stall": (30.0, "seconds without data, or below min-rate, after which a connection is closed"),
    "min-rate": (1024.0, "bytes/s below which a connection is closed and retried"),
    "tries": (6, "tries without progress before the run fails"),
    "wait-cap": (60.0, "longest wait between two tries in seconds, whatever the server asks for"),
    "margin-mib": (64, "MiB of disk space to keep free"),
    "segment-kib": (32 * 1024, "KiB of one range request"),
}
_AT_LEAST_ONE = {"connections", "tries", "segment-kib"}

Model = Annotated[str, typer.Argument(help="Model id of the catalogue, such as tiny-codegen.")]
OptionalModel = Annotated[str | None, typer.Argument(help="Model id; all models if omitted.")]
# The store of the clone that this code is of, for the commands that a user types there; nothing elsewhere.
_CLONE = Path(__file__).resolve().parents[1] / ".run/models"
_NONE = Path()


def _named(context: typer.Context, store: Path) -> Path:
    if store == _NONE and not context.resilient_parsing:
        raise typer.BadParameter("name the folder of the model store: --store FOLDER, or MODEL_STORE")
    return store


StoreFolder = Annotated[
    Path,
    typer.Option(
        "--store",
        help="Folder of the model store. Default: this clone's, .run/models.",
        envvar="MODEL_STORE",
        default_factory=lambda: _CLONE if _CLONE.is_dir() else _NONE,
        show_default=False,
        callback=_named,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Use this revision, not the catalogue's (whose checksums then do not apply)."),
]
SourceAddress = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="hub+https://host, https://base/address, s3:// or gs://bucket/folder, file:///folder, a folder.",
    ),
]
ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", help="Take files and checksums from this manifest.json.")
]
AllowUnpinned = Annotated[
    bool, typer.Option("--allow-unpinned", help="Download model files that have no recorded checksum.")
]
AcceptLicence = Annotated[
    str | None,
    typer.Option(
        "--accept-licence",
        metavar="ID",
        help="Accept this licence of the model: required where it allows no commercial use.",
    ),
]
AllowFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-format", help="Allow another file suffix, such as .bin; these files need a checksum."
    ),
]
Runtime = Annotated[
    str | None, typer.Option(help="Also convert for this runtime: ctranslate2, llama_cpp or onnxruntime.")
]
Precision = Annotated[str | None, typer.Option(help="Precision of the conversion, such as int8 or Q8_0.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines, on a terminal too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done and change nothing.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the hub token (default: HF_TOKEN, HF_TOKEN_PATH).")
]
Ca = Annotated[Path | None, typer.Option("--ca", help="PEM file of additional certificate authorities.")]
AllowHttp = Annotated[
    bool, typer.Option("--allow-http", help="Allow unencrypted http, for a trusted network.")
]
RedirectHosts = Annotated[
    list[str] | None, typer.Option("--redirect-host", help="Follow redirects to this host only (repeatable).")
]
Tuning = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Tune as KEY=NUMBER (repeatable): "
        + ", ".join(f"{key} ({meaning})" for key, (_, meaning) in TUNING.items())
        + ".",
    ),
]
Rehash = Annotated[
    bool, typer.Option("--verify", help="Re-hash files that are already present and repair them.")
]


def tuning(texts: list[str] | None) -> dict[str, float]:
    """Return every tuning value: the defaults, overridden by ``KEY=NUMBER`` texts.

    Raises typer.BadParameter for an unknown key, and for a number that is missing or out of range.
    """
    values = {name: default for name, (default, _) in TUNING.items()}
    for text in texts or []:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if name not in TUNING or not 0 <= value < 1e12 or (value < 1 and name in _AT_LEAST_ONE):
            raise typer.BadParameter(f"--set {text}: expected KEY=NUMBER with one of {', '.join(TUNING)}")
        values[name] = value
    return values

"""The file names and formats that a store accepts; a whole plan is checked before any transfer."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from model_loader.errors import PlanError

MAX_NAME = 255
MAX_PATH = 1024
ALLOWED_SUFFIXES = frozenset(
    {".safetensors", ".gguf", ".onnx", ".plan", ".json", ".txt", ".pbtxt", ".model", ".jinja", ".md"}
)
ALLOWED_NAMES = frozenset({"LICENSE", "LICENCE", "NOTICE", ".gitattributes"})
# Pickled weights, which only torch's reader for weights alone sees (serving/convert/pickled.py). Not every
# .bin file: a trainer's arguments and optimiser states are no weights.
_PICKLED = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin")
RESERVED = frozenset({"manifest.json"})
_DRIVE = re.compile(r"^[A-Za-z]:")


def _violation(name: str) -> str | None:
    parts = name.split("/")
    checks = (
        (not name, "the name is empty"),
        (
            any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in name),
            "the name contains a control character",
        ),
        ("\\" in name, "the name contains a backslash"),
        (name.startswith("/") or bool(_DRIVE.match(name)), "the path is absolute"),
        (any(part in {"", ".", ".."} for part in parts), "the path has an empty, '.' or '..' component"),
        (
            any(len(part.encode(errors="replace")) > MAX_NAME for part in parts),
            "a path component exceeds 255 bytes",
        ),
        (len(name.encode(errors="replace")) > MAX_PATH, f"the path exceeds {MAX_PATH} bytes"),
        (name in RESERVED, "the name is reserved for the store"),
    )
    return next((reason for violated, reason in checks if violated), None)


def is_pickled(name: str) -> bool:
    """Return whether a file of this name has a model's pickled weights."""
    return _PICKLED.fullmatch(PurePosixPath(name).name) is not None


def check_name(name: str) -> None:
    """Refuse a relative file name that could leave the store or is ambiguous. Raises PlanError."""
    if reason := _violation(name):
        raise PlanError(f"file name {name[:80]!r} is refused: {reason}. Correct the manifest or the archive.")


def check_names(names: Iterable[str]) -> None:
    """Check every name, and that no two names are equal after case folding or Unicode normalisation (NFC).

    A name that is also the folder of another name is refused too. Raises PlanError.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_name(name)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            raise PlanError(
                f"file names {seen[key]!r} and {name!r} are the same on some file systems; remove one."
            )
        seen[key] = name
    for key, name in seen.items():
        clash = next((str(p) for p in PurePosixPath(key).parents if str(p) in seen), None)
        if clash:
            raise PlanError(f"{seen[clash]!r} is both a file and the folder of {name!r}; remove one.")


def check_format(name: str, *, pinned: bool, extra: frozenset[str] = frozenset()) -> None:
    """Refuse a format that can run code when loaded (pickle, ``.bin``, ``.py``) or that no runtime reads.

    ``extra`` are suffixes that the operator allowed (``.bin``). Such files and a model's pickled weights need
    a checksum. Raises PlanError.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in ALLOWED_SUFFIXES or path.name in ALLOWED_NAMES:
        return
    if path.suffix.lower() not in extra and not is_pickled(name):
        raise PlanError(
            f"{name!r}: format {path.suffix or path.name!r} is not on the allow-list (pickles and programs"
            " can run code). Choose a safetensors or GGUF revision, or use --allow-format."
        )
    if not pinned:
        raise PlanError(
            f"{name!r} can run code, so it needs a recorded sha256; run `assist models pin` first."
        )


def check_identifier(value: str, what: str) -> str:
    """Return a model id or revision as one safe folder name, with ``/`` written as ``--``.

    ``what`` names the value in messages. The names of the store's symbolic links are refused, so ``current``
    is never a revision. Raises PlanError.
    """
    name = value.replace("/", "--")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", name) or ".." in name:
        raise PlanError(
            f"{what} {value[:80]!r} is refused: use only letters, digits, '.', '_', '-', '+' and '/'."
        )
    if name.split(".")[0] in {"current", "previous"}:
        raise PlanError(f"{what} {value!r} is refused: 'current' and 'previous' are reserved for the store.")
    return name

"""Which names may enter a store, and which formats. Checked for the whole set before any byte moves."""

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
RESERVED = frozenset({"manifest.json"})
_DRIVE = re.compile(r"^[A-Za-z]:")


def _fault(name: str) -> str | None:
    parts = name.split("/")
    checks = (
        (not name, "it is empty"),
        (any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in name), "it holds a control character"),
        ("\\" in name, "it holds a backslash"),
        (name.startswith("/") or bool(_DRIVE.match(name)), "it is absolute"),
        (any(part in {"", ".", ".."} for part in parts), "it has an empty, '.' or '..' part"),
        (any(len(part.encode(errors="replace")) > MAX_NAME for part in parts), "a part exceeds 255 bytes"),
        (len(name.encode(errors="replace")) > MAX_PATH, f"it exceeds {MAX_PATH} bytes"),
        (name in RESERVED, "the store writes a file of that name itself"),
    )
    return next((why for wrong, why in checks if wrong), None)


def check_name(name: str) -> None:
    """Refuse a relative file name that could leave the store or mean two things. Raises PlanError."""
    if why := _fault(name):
        raise PlanError(f"file name {name[:80]!r} is refused: {why}. Correct the manifest or the archive.")


def check_names(names: Iterable[str]) -> None:
    """Check every name, and that no two are one under case folding or Unicode normal form (NFC).

    A file that is also another's folder is refused too. Raises PlanError.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_name(name)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if key in seen:
            raise PlanError(
                f"file names {seen[key]!r} and {name!r} are one name on some file systems; keep one."
            )
        seen[key] = name
    for key, name in seen.items():
        clash = next((str(p) for p in PurePosixPath(key).parents if str(p) in seen), None)
        if clash:
            raise PlanError(f"{seen[clash]!r} is both a file and the folder of {name!r}; keep one.")


def check_format(name: str, *, pinned: bool, extra: frozenset[str] = frozenset()) -> None:
    """Refuse a format that runs code when loaded (pickle, ``.bin``, ``.py``) or that nothing here reads.

    ``extra`` holds suffixes the operator allowed (``.bin``); they still need a checksum. Raises PlanError.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in ALLOWED_SUFFIXES or path.name in ALLOWED_NAMES:
        return
    if path.suffix.lower() not in extra:
        raise PlanError(
            f"{name!r}: format {path.suffix or path.name!r} is not on the allow-list (pickled weights and"
            " programs run code when loaded). Choose a safetensors or GGUF revision, or use --allow-format."
        )
    if not pinned:
        raise PlanError(
            f"{name!r}: --allow-format needs a sha256 for this file; run `assist models pin` first."
        )


def check_identifier(value: str, what: str) -> str:
    """Return ``value`` as one safe folder name: a model id, or a revision with ``/`` written as ``--``.

    Raises PlanError. Names of our own symlinks are refused, so ``current`` can never be a revision.
    """
    name = value.replace("/", "--")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", name) or ".." in name:
        raise PlanError(
            f"{what} {value[:80]!r} is refused: letters, digits, '.', '_', '-', '+' and '/' only."
        )
    if name.split(".")[0] in {"current", "previous"}:
        raise PlanError(f"{what} {value!r} is refused: 'current' and 'previous' are the store's own names.")
    return name

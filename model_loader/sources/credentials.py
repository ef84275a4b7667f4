"""Reads the hub token from the environment or a file, not from arguments, which are public in /proc."""

from collections.abc import Mapping
from pathlib import Path

from model_loader.errors import SourceError


def token_from(environment: Mapping[str, str], token_file: Path | None) -> str | None:
    """Return the hub token from ``token_file``, HF_TOKEN_PATH or HF_TOKEN, in this order, or None.

    Raises SourceError when the file cannot be read, and when the token contains other characters than
    printable ASCII.
    """
    path = token_file or (Path(environment["HF_TOKEN_PATH"]) if environment.get("HF_TOKEN_PATH") else None)
    token = environment.get("HF_TOKEN", "")
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"cannot read token file {path}: {getattr(error, 'strerror', None) or 'not a text file'}."
            ) from None
    token = token.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SourceError("the token contains invalid characters; check HF_TOKEN or the token file.")
    return token or None

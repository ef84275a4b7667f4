"""The hub token: from the environment or a file, never from an argument (arguments are public in /proc)."""

from collections.abc import Mapping
from pathlib import Path

from model_loader.errors import SourceError


def token_from(environment: Mapping[str, str], token_file: Path | None) -> str | None:
    """Return the hub token from ``token_file`` or HF_TOKEN / HF_TOKEN_PATH, or None. Never from an argument.

    Raises SourceError when the named file cannot be read or holds no single line.
    """
    path = token_file or (Path(environment["HF_TOKEN_PATH"]) if environment.get("HF_TOKEN_PATH") else None)
    token = environment.get("HF_TOKEN", "")
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"token file {path} cannot be read: {getattr(error, 'strerror', None) or 'no text'}."
            ) from None
    token = token.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SourceError("the token holds characters that no token has; check HF_TOKEN or the token file.")
    return token or None

"""Tells weights from an error page by content: a 200 with HTML inside is the commonest broken download."""

import json
from pathlib import PurePosixPath

from model_loader.errors import IntegrityError

HEAD = 512  # bytes that decide
_LFS = b"version https://git-lfs.github.com/spec/"
_MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit


def _looks_like_error(head: bytes) -> bool:
    try:
        document = json.loads(head)
    except ValueError:
        return head.lstrip().startswith((b'{"error"', b'{"message"'))
    return (
        isinstance(document, dict)
        and bool({"error", "errors", "message"} & set(document))
        and len(document) <= 4
    )


def _wrong_magic(suffix: str, head: bytes) -> str | None:
    if suffix == ".gguf" and not head.startswith(b"GGUF"):
        return "it does not start with GGUF"
    if suffix == ".safetensors":
        length = int.from_bytes(head[:8], "little")
        if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= _MAX_SAFETENSORS_HEADER:
            return "it has no safetensors header"
    return None


def check(path: str, head: bytes) -> None:
    """Refuse ``head``, the first bytes of file ``path``, when it is plainly something else.

    Raises IntegrityError for HTML, a Git LFS pointer, a JSON error, or a wrong magic number.
    """
    suffix = PurePosixPath(path).suffix.lower()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    why = None
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        why = "it is a web page (a login or error page answered instead)"
    elif head.startswith(_LFS):
        why = "it is a Git LFS pointer, not the file; the mirror was copied without `git lfs pull`"
    elif _looks_like_error(head):
        why = "it is a JSON error message"
    else:
        why = _wrong_magic(suffix, head)
    if why:
        raise IntegrityError(f"{path}: refused by content: {why}.")

"""Detects error pages by content: a response 200 that contains HTML is the most common failed download."""

import json
from pathlib import PurePosixPath

from model_loader import path_rules
from model_loader.errors import IntegrityError

HEAD = 512  # bytes that are examined
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


def _wrong_header(path: str, head: bytes) -> str | None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".gguf" and not head.startswith(b"GGUF"):
        return "a GGUF file must start with GGUF"
    if path_rules.is_pickled(path) and not head.startswith(b"PK\x03\x04"):
        return "pickled weights must be a zip file, as torch writes since 1.6"
    if suffix == ".safetensors":
        length = int.from_bytes(head[:8], "little")
        if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= _MAX_SAFETENSORS_HEADER:
            return "the safetensors header is invalid"
    return None


def check(path: str, head: bytes) -> None:
    """Check that ``head``, the first bytes of file ``path``, can be the start of such a file.

    Raises IntegrityError for HTML, a Git LFS pointer, a JSON error message, and a wrong header of GGUF,
    safetensors or pickled weights.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    reason = None
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        reason = "the content is a web page (a login or error page was returned)"
    elif head.startswith(_LFS):
        reason = "the content is a Git LFS pointer; run `git lfs pull` on the mirror"
    elif _looks_like_error(head):
        reason = "the content is a JSON error message"
    else:
        reason = _wrong_header(path, head)
    if reason:
        raise IntegrityError(f"{path}: unexpected content: {reason}.")

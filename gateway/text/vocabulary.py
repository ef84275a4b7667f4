"""Token id to bytes, for the two notations of bytes in the vocabularies of code models.

With the bytes of each token, decoding in chunks is concatenation plus an incremental UTF-8 decoder, so a
stream and a whole completion cannot differ. ``tokenizers.decoders.DecodeStream`` holds text back for as long
as it ends in U+FFFD and has no flush, so it loses the end of a text that really contains that character.
"""

import re
from typing import Any

_BYTE_FALLBACK = re.compile(r"^<0x([0-9A-F]{2})>$")
_WORD_START = "\u2581"


def token_bytes(document: dict[str, Any]) -> list[bytes]:
    """Return the bytes of every id of a ``tokenizer.json``; control tokens give ``b""``.

    The tokenizer must be byte-level (GPT-2, CodeGen, Qwen, StarCoder) or SentencePiece-like (Llama, Mistral);
    raises ``TypeError`` for Unigram vocabularies.
    """
    vocabulary: dict[str, int] = document["model"].get("vocab", {})
    if not isinstance(vocabulary, dict):
        raise TypeError("tokenizer.json: only BPE vocabularies are supported (Unigram is not)")
    convert = _byte_level if _has_part(document.get("decoder"), "ByteLevel") else _sentence_piece
    added = document.get("added_tokens", [])
    size = 1 + max([*vocabulary.values(), *(token["id"] for token in added)], default=-1)
    table = [b""] * size
    for text, index in vocabulary.items():
        table[index] = convert(text)
    for token in added:
        table[token["id"]] = b"" if token["special"] else token["content"].encode()
    return table


def _has_part(component: dict[str, Any] | None, kind: str) -> bool:
    """Return whether a decoder is of a kind, or a sequence that contains one."""
    if component is None:
        return False
    return component["type"] == kind or any(_has_part(part, kind) for part in component.get("decoders", []))


def _printable_bytes() -> dict[str, int]:
    """Return GPT-2's table from printable characters to bytes; a printable byte has its own character.

    The others have the code points from 256 on, in order (OpenAI's GPT-2 encoder, 2019).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _printable_bytes()


def _byte_level(token: str) -> bytes:
    """Return the bytes of a byte-level token; a token outside the table is plain text."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()


def _sentence_piece(token: str) -> bytes:
    """Return the bytes of a SentencePiece token: ``<0x0A>`` is a byte, U+2581 is a space."""
    fallback = _BYTE_FALLBACK.match(token)
    return bytes([int(fallback[1], 16)]) if fallback else token.replace(_WORD_START, " ").encode()

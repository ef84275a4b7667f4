"""Recovers token ids from llama.cpp's stream.

llama.cpp streams text. While the text ends within a UTF-8 character, it holds tokens back, and then reports
the id of the last one only. In the files that ``serving.convert`` writes every token's name is ASCII, so no
token is held back; for other files the ids of held tokens are determined from their bytes.
"""

import re
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import gguf_header

_BYTE = re.compile(r"<0x([0-9A-F]{2})>\Z")
_BYTE_TOKEN = 6  # llama.h's LLAMA_TOKEN_TYPE_BYTE


class TokenIdReader:
    """Reads token ids from streamed chunks, with the vocabulary of a GGUF file."""

    def __init__(self, path: Path) -> None:
        """Remember the file; its vocabulary is read on first use: of many files it is never needed."""
        self._path = path
        self._lock = threading.Lock()

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        """Map the bytes of each token that is not whole characters to its id."""
        metadata = gguf_header.read(self._path).metadata
        has_byte_tokens = _BYTE_TOKEN in (metadata.get("tokenizer.ggml.token_type") or ())
        decode = _sentence_piece if has_byte_tokens else _byte_level()
        ids: dict[bytes, int] = {}
        for index, text in enumerate(metadata["tokenizer.ggml.tokens"]):
            data = decode(text)
            if data is not None and not _is_text(data):
                ids.setdefault(data, index)
        return ids

    def tokens(self, chunk: dict[str, Any]) -> list[tuple[int, float]]:
        """Return ids and log probabilities of one streamed chunk.

        Held tokens have log probability 0, and so have all where llama.cpp reports its sampler's probability.
        """
        choice = chunk["choices"][0]
        content = (choice.get("logprobs") or {}).get("content") or []
        if not content:
            return []
        last = content[-1]
        text = choice["text"].encode()
        held = text[: len(text) - len(last["bytes"])]
        held_tokens = [(token, 0.0) for token in self.split(held)] if held else []
        return [*held_tokens, (last["id"], last.get("logprob", 0.0))]

    def split(self, data: bytes) -> list[int]:
        """Return the ids of the tokens with these bytes, preferring long ones; unknown bytes are skipped."""
        with self._lock:
            longest = max(map(len, self._by_bytes), default=1)
        ids, start = [], 0
        while start < len(data):
            ends = range(min(len(data), start + longest), start, -1)
            end = next((end for end in ends if data[start:end] in self._by_bytes), None)
            if end is not None:
                ids.append(self._by_bytes[data[start:end]])
            start = end or start + 1
        return ids


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sentence_piece(text: str) -> bytes | None:
    match = _BYTE.match(text)
    return bytes([int(match[1], 16)]) if match else None


def _byte_level() -> Any:  # noqa: ANN401 -- a closure
    """Return the decoder of GPT-2's alphabet: printable bytes map to themselves, the others to 256 and up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}

    def decode(text: str) -> bytes | None:
        return bytes(alphabet[char] for char in text) if all(char in alphabet for char in text) else None

    return decode

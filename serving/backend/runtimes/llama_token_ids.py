"""Get the token ids out of llama.cpp's stream.

llama.cpp streams text. It holds a token back while the text ends within a UTF-8 character, and then tells the
id of the last one only. The files that ``serving.convert`` writes name every token in ASCII, so nothing is
ever held back; for a file that others made, the ids of held tokens are found again from their bytes.
"""

import re
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf

_BYTE = re.compile(r"<0x([0-9A-F]{2})>\Z")


class Pieces:
    """The tokens of a GGUF file whose bytes are no whole characters."""

    def __init__(self, path: Path) -> None:
        """Note the file; its vocabulary is read when first needed, because that takes seconds."""
        self._path = path
        self._lock = threading.Lock()

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        reader = gguf.GGUFReader(self._path)
        model = str(reader.get_field("tokenizer.ggml.model").contents())
        decode = _byte_level() if model == "gpt2" else _sentence_piece
        found: dict[bytes, int] = {}
        for index, text in enumerate(reader.get_field("tokenizer.ggml.tokens").contents()):
            data = decode(text)
            if data is not None and not _whole(data):
                found.setdefault(data, index)
        return found

    def tokens(self, chunk: dict[str, Any]) -> list[tuple[int, float]]:
        """Return ids and log probabilities of one streamed chunk; held tokens have the log probability 0."""
        choice = chunk["choices"][0]
        content = (choice.get("logprobs") or {}).get("content") or []
        if not content:
            return []
        last = content[-1]
        text = choice["text"].encode()
        held = text[: len(text) - len(last["bytes"])]
        found = [(token, 0.0) for token in self.split(held)] if held else []
        return [*found, (last["id"], last["logprob"])]

    def split(self, data: bytes) -> list[int]:
        """Return tokens with these bytes, longest first; bytes that begin no partial token are left out."""
        with self._lock:
            longest = max(map(len, self._by_bytes), default=1)
        found, start = [], 0
        while start < len(data):
            ends = range(min(len(data), start + longest), start, -1)
            end = next((end for end in ends if data[start:end] in self._by_bytes), None)
            if end is not None:
                found.append(self._by_bytes[data[start:end]])
            start = end or start + 1
        return found


def _whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sentence_piece(text: str) -> bytes | None:
    match = _BYTE.match(text)
    return bytes([int(match[1], 16)]) if match else None


def _byte_level() -> Any:  # noqa: ANN401 -- a closure
    """Return the inverse of GPT-2's alphabet: printable bytes stand for themselves, the rest from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}

    def decode(text: str) -> bytes | None:
        return bytes(alphabet[char] for char in text) if all(char in alphabet for char in text) else None

    return decode

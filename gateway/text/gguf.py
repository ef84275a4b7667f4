"""The head of a GGUF file: what a gateway on another host than the model needs of it, without the weights.

The tokenizer in it is read by llama.cpp alone (``llama_library``).
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# GGUF's scalars by their number, as codes of ``struct`` (ggml's docs/gguf.md); 8 is a string and 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_TEMPLATE = "tokenizer.chat_template"


class _Head:
    """The metadata of a file, which stays on disk: each entry as its bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        _, self.version, _, self._count = self._unpack("<4sIQQ", 0)
        if data[:4] != _MAGIC or self.version not in _VERSIONS:
            raise ValueError("not a GGUF file of version 2 or 3")

    def entries(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield each entry's key, the offset of its value in the entry, and the entry's bytes."""
        at = struct.calcsize("<4sIQQ")
        for _ in range(self._count):
            begin, key_end = at, self._string_end(at)
            at = self._value_end(key_end + 4, *self._unpack("<I", key_end))
            entry = self._data[begin:at]
            yield entry[8 : key_end - begin].decode("utf-8", "replace"), key_end + 4 - begin, entry

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self._data, at)
        except struct.error:
            raise ValueError("the file ends within its head") from None

    def _string_end(self, at: int) -> int:
        (length,) = self._unpack("<Q", at)
        return at + 8 + length

    def _value_end(self, at: int, kind: int) -> int:
        if kind == _STRING:
            return self._string_end(at)
        if kind != _ARRAY:
            return at + struct.calcsize(_SCALARS[kind])
        inner, count = self._unpack("<IQ", at)
        at += struct.calcsize("<IQ")
        if inner not in {_STRING, _ARRAY}:
            return at + count * struct.calcsize(_SCALARS[inner])
        for _ in range(count):
            at = self._value_end(at, inner)
        return at


def _entries(file: Path) -> tuple[int, dict[str, tuple[int, bytes]]]:
    """Return a file's version and its metadata. Raises ``ValueError`` for what is not a GGUF file."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            head = _Head(data)
            return head.version, {key: (offset, entry) for key, offset, entry in head.entries()}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} can't be read as a GGUF file: {error}") from error


def vocabulary(file: Path) -> bytes:
    """Return a GGUF file of the tokenizer alone: the same bytes for two files with the same tokenizer.

    Raises ``ValueError`` for what is not a GGUF file.
    """
    version, entries = _entries(file)
    kept = [
        entry
        for key, (_, entry) in sorted(entries.items())
        if key == "general.architecture" or (key.startswith("tokenizer.") and not key.startswith(_TEMPLATE))
    ]
    return struct.pack("<4sIQQ", _MAGIC, version, 0, len(kept)) + b"".join(kept)


def has_numbered_tokens(file: Path) -> bool:
    """Return whether each token's name is its id, as ``serving.convert`` writes: no text is meant by it.

    Raises ``ValueError`` for what is not a GGUF file.
    """
    offset, entry = _entries(file)[1].get(_TOKENS, (0, b""))
    names = b"".join(struct.pack("<Q", 3) + f"<{index}>".encode() for index in range(3))
    return entry[offset + struct.calcsize("<IQ") :].startswith(names)

"""The header of a GGUF file: its metadata and its tensors' shapes (ggml's docs/gguf.md).

A header is a stranger's input. Every count and length in it is compared with a limit and with the file's size
before anything is read for it, so memory stays near the header's own size, whatever the header claims.

It is here because the backend's folder is copied to where Triton's other packages are not.
"""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Read = Callable[[int, int], bytes]
"""Returns bytes of a file, given their offset and count; raises where the file ends before them."""
MAX_HEADER = 128 * 1024 * 1024
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMENSIONS = 1 << 16, 1 << 17, 8
_MAX_NAME, _MAX_TEXT, _MAX_ITEMS, _MAX_DEPTH = 1 << 16, 4 << 20, 1 << 21, 4
_MAX_ALIGNMENT = 1 << 20
_VERSIONS = (2, 3)
# Scalars by their number, as codes of `struct`; 8 is a string and 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
# The arrays of texts that are kept; merges and the like are only passed over.
_KEPT_TEXTS = frozenset({"tokenizer.ggml.tokens"})
MAGIC = b"GGUF"


class GgufError(ValueError):
    """The file cannot be read as GGUF; the message names the file, the cause and the remedy."""


# ggml's types of tensors: name, weights in a block, bytes of a block.
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor: its number of ``elements``, ggml's ``kind``, and its ``offset`` in the data in bytes."""

    elements: int
    kind: int
    offset: int

    @property
    def size(self) -> int:
        """The bytes of the data; 0 for a type that is not known here."""
        _, block, size = TENSOR_TYPES.get(self.kind, ("", 1, 0))
        return math.ceil(self.elements / block) * size


@dataclass
class Header:
    """``metadata`` by key, ``tensors`` by name, and the offset of the tensors' data in bytes.

    Of arrays of texts, only the vocabulary is in ``metadata``. ``spans`` are the begin and the end of each
    key's entry in the file, and ``version`` is GGUF's.
    """

    name: str
    version: int
    metadata: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    data: int = 0

    @property
    def elements(self) -> dict[str, int]:
        """The number of elements of each tensor."""
        return {name: tensor.elements for name, tensor in self.tensors.items()}

    @property
    def end(self) -> int:
        """The bytes that a complete file has at least."""
        return self.data + max((each.offset + each.size for each in self.tensors.values()), default=0)

    def shape(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 -- whichever of GGUF's types
        """Return the value of ``<architecture>.<key>``."""
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}", default)


def read(file: Path) -> Header:
    """Return the header of a local file. Raises as ``parse``, and ``OSError`` where it cannot be read."""
    with file.open("rb") as stream:
        size = file.stat().st_size
        if not size:
            raise GgufError(f"{file} is not a GGUF file.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:

            def part(offset: int, count: int) -> bytes:
                if offset + count > size:
                    raise GgufError(f"{file} ends within its header; it is cut off. Download it again.")
                return data[offset : offset + count]

            return parse(part, size, str(file))


def parse(read_bytes: Read, size: int, name: str) -> Header:
    """Return the header of a GGUF file of version 2 or 3, little-endian.

    Args:
        read_bytes: reads the file.
        size: of the file in bytes.
        name: of the file, for messages.

    Raises:
        GgufError: for another file, a damaged one and an absurd header, with what is wrong.
    """
    cursor = _Cursor(read_bytes, name)
    if size < struct.calcsize("<4sIQQ") or cursor.take(4) != MAGIC:
        raise GgufError(f"{name} is not a GGUF file.")
    (version,) = cursor.unpack("I")
    if version not in _VERSIONS:
        swapped = struct.unpack(">I", struct.pack("<I", version))[0] in _VERSIONS
        what = "is big-endian, for other processors" if swapped else f"has GGUF's version {version}"
        raise GgufError(f"{name} {what}; versions 2 and 3, little-endian, can be read. Get another file.")
    tensors, keys = cursor.unpack("QQ")
    cursor.limit(tensors, _MAX_TENSORS, "tensors")
    cursor.limit(keys, _MAX_KEYS, "keys")
    header = Header(name, version)
    for _ in range(keys):
        begin, key = cursor.at, cursor.text(_MAX_NAME)
        header.metadata[key] = cursor.value(cursor.unpack("I")[0], keep=key in _KEPT_TEXTS)
        header.spans[key] = (begin, cursor.at)
    for _ in range(tensors):
        name = cursor.text(_MAX_NAME)
        (dimensions,) = cursor.unpack("I")
        cursor.limit(dimensions, _MAX_DIMENSIONS, "dimensions of a tensor")
        elements = math.prod(cursor.unpack(f"{dimensions}Q"))
        header.tensors[name] = Tensor(elements, *cursor.unpack("IQ"))
    header.data = _aligned(cursor.at, header)
    return header


def _aligned(end: int, header: Header) -> int:
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT:
        raise GgufError(f"{header.name} is damaged: general.alignment is {alignment!r}. Download it again.")
    return math.ceil(end / alignment) * alignment


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, read_bytes: Read, name: str) -> None:
        self._read, self._name = read_bytes, name
        self.at = 0

    def limit(self, count: int, most: int, what: str) -> None:
        """Refuse a count above ``most``."""
        if count > most:
            raise GgufError(f"{self._name} is damaged: its header claims {count} {what}. Download it again.")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if self.at + count > MAX_HEADER:
            raise GgufError(f"{self._name}: the header exceeds {MAX_HEADER >> 20} MiB, which is refused.")
        part = self._read(self.at, count)
        self.at += count
        return part

    def unpack(self, code: str) -> tuple[Any, ...]:
        """Return the next scalars, as ``struct`` codes them."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))

    def text(self, most: int = _MAX_TEXT) -> str:
        """Return the next text; bytes that are not UTF-8 become U+FFFD."""
        (length,) = self.unpack("Q")
        self.limit(length, most, "bytes of one text")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, *, keep: bool, depth: int = 0) -> Any:  # noqa: ANN401 -- whichever of GGUF's types
        """Return the next value of a kind; None for an array of texts that is not kept."""
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        self.limit(depth, _MAX_DEPTH, "arrays within each other")
        if kind != _ARRAY:
            raise GgufError(f"{self._name} is damaged: value of type {kind}. Download it again.")
        inner, count = self.unpack("IQ")
        self.limit(count, _MAX_ITEMS, "items of an array")
        if inner in _SCALARS:
            return list(self.unpack(f"{count}{_SCALARS[inner]}"))
        items = (self.value(inner, keep=keep, depth=depth + 1) for _ in range(count))
        if keep:
            return list(items)
        for _ in items:
            pass
        return None

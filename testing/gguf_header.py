"""The header of a GGUF file: its metadata and the shapes of its tensors, in a second where the library takes half a minute.

The format: ggml's docs/gguf.md.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """``metadata`` by key, and the number of ``elements`` of each tensor by name."""

    metadata: dict[str, Any]
    elements: dict[str, int]

    def shape(self, key: str, default: Any = None) -> Any:
        """Return the value of ``<architecture>.<key>``."""
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}", default)


def read(file: Path) -> Header:
    """Return the header of a GGUF file of version 2 or 3, which is little-endian."""
    with file.open("rb") as stream:
        assert stream.read(4) == b"GGUF"
        assert _unpack(stream, "I")[0] in {2, 3}
        tensors, keys = _unpack(stream, "QQ")
        metadata = {}
        for _ in range(keys):
            key = _string(stream)
            metadata[key] = _value(stream, _unpack(stream, "I")[0])
        elements = {}
        for _ in range(tensors):
            name = _string(stream)
            (dimensions,) = _unpack(stream, "I")
            elements[name] = math.prod(_unpack(stream, f"{dimensions}Q"))
            _unpack(stream, "IQ")
    return Header(metadata, elements)


def _unpack(stream: BinaryIO, code: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{code}", stream.read(struct.calcsize(f"<{code}")))


def _string(stream: BinaryIO) -> str:
    return stream.read(_unpack(stream, "Q")[0]).decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(stream)
    if kind != _ARRAY:
        return _unpack(stream, _SCALARS[kind])[0]
    inner, count = _unpack(stream, "IQ")
    if inner in {_STRING, _ARRAY}:
        return [_value(stream, inner) for _ in range(count)]
    return list(_unpack(stream, f"{count}{_SCALARS[inner]}"))

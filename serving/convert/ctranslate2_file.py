"""Writes CTranslate2's ``model.bin`` one block of rows after the other.

CTranslate2's own ``optimize`` and ``save`` hold every quantised weight until the last one; the bytes here are
equal to theirs (tests/serving/test_convert.py).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ctranslate2.specs import model_spec
from numpy.typing import NDArray

from serving.convert.blocks import Source

_INT8 = frozenset({"int8", "int8_float32", "int8_float16"})
_OTHERS = {"int8_float16": "float16", "float16": "float16"}
_PEAK = np.float32(127)


class LazyVariable(model_spec.Variable):  # type: ignore[misc]  # ctranslate2 ships no types
    """A weight that is read when it is written, and not kept."""

    def __init__(self, source: Source, dtype: str = "float32") -> None:
        self.source = source
        self._dtype = dtype

    @property
    def shape(self) -> list[int]:
        """The shape of the tensor, which is not read for it."""
        return list(self.source.shape)

    @property
    def dtype(self) -> str:
        """The type that the tensor is written with."""
        return self._dtype

    def num_bytes(self) -> int:
        """Return the size in the file in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self._dtype).itemsize

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the values as they are written."""
        for block in self.source.blocks():
            yield block.astype(self._dtype, copy=False)

    def numpy(self) -> NDArray[Any]:
        """Read and return the whole tensor."""
        return self.source.load().astype(self._dtype, copy=False)

    def to_bytes(self) -> bytes:
        """Return the bytes of the whole tensor."""
        return self.numpy().tobytes()

    def _to(self, dtype: str) -> "LazyVariable":
        return LazyVariable(self.source, dtype)

    def _equal(self, other: model_spec.Variable) -> bool:
        return self is other


class _Quantised(LazyVariable):
    """A weight as int8; ``scales`` are those of the rows that have been written."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, "int8")
        self.scales = np.empty(source.shape[0], np.float32)

    def blocks(self) -> Iterator[NDArray[np.int8]]:
        """Yield the int8 values, and keep their rows' scales."""
        start = 0
        for block in self.source.blocks():
            peaks = np.abs(block).max(axis=1)
            peaks[peaks == 0] = _PEAK
            scales = _PEAK / np.maximum(peaks, _PEAK / np.finfo(np.float32).max)
            self.scales[start : start + len(block)] = scales
            start += len(block)
            block *= scales[:, None]
            yield np.rint(block, out=block).astype(np.int8)


def quantise(spec: Any, precision: str) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    """Give every weight of ``spec`` the type of ``precision``, without reading any."""
    spec._alias_variables()

    def visit(part: Any, name: str, value: object) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
        if not isinstance(value, LazyVariable):
            return
        key = name.rpartition("/")[2]
        if hasattr(part, f"{key}_scale") and precision in _INT8:
            quantised = _Quantised(value.source)
            setattr(part, key, quantised)
            # Written after the weight, when the scales are known: both are sorted by name.
            scales = Source((len(quantised.scales),), lambda start, end: quantised.scales[start:end])
            setattr(part, f"{key}_scale", LazyVariable(scales))
        else:
            setattr(part, key, LazyVariable(value.source, _OTHERS.get(precision, "float32")))

    spec._visit(visit)


def write(spec: Any, path: Path) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    """Write the variables of ``spec`` to ``path``, as ``ModelSpec.save`` does."""
    variables = spec.variables(ordered=True)
    aliases = [(name, value) for name, value in variables if isinstance(value, str)]
    with path.open("wb") as file:
        file.write(struct.pack("I", model_spec.CURRENT_BINARY_VERSION))
        _string(file, spec.name)
        file.write(struct.pack("II", spec.revision, len(variables) - len(aliases)))
        for name, value in variables:
            if not isinstance(value, str):
                _string(file, name)
                _variable(file, value)
        file.write(struct.pack("I", len(aliases)))
        for alias, name in aliases:
            _string(file, alias)
            _string(file, name)


def _variable(file: BinaryIO, value: Any) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    file.write(struct.pack("B", len(value.shape)))
    file.write(struct.pack(f"{len(value.shape)}I", *value.shape))
    file.write(struct.pack("B", model_spec._dtype_to_type_id(value.dtype)))
    file.write(struct.pack("I", value.num_bytes()))
    if isinstance(value, LazyVariable):
        for block in value.blocks():
            file.write(np.ascontiguousarray(block).data)
    else:
        file.write(value.to_bytes())


def _string(file: BinaryIO, text: str) -> None:
    file.write(struct.pack("H", len(text) + 1) + text.encode() + b"\0")

"""Reads a checkpoint in Hugging Face's format by rows of its tensors: safetensors or pickles, or shards."""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from serving.convert import pickled
from serving.convert.blocks import Array, Source
from serving.convert.errors import ConversionError

_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Checkpoint:
    """The ``config.json`` and the tensors of one model folder; tensors are read on access."""

    def __init__(self, directory: Path, progress: Callable[[int], None] = lambda _: None) -> None:
        """Read ``config.json``. ``progress`` gets the bytes of each read. Raises ``ConversionError``."""
        self.directory = directory
        self._progress = progress
        self.config = _read_json(directory / "config.json")

    @property
    def architecture(self) -> str:
        """The class name in the model's ``config.json``, such as ``CodeGenForCausalLM``."""
        return str((self.config.get("architectures") or ["none"])[0])

    def number(self, key: str) -> int:
        """Return a whole number of ``config.json``. Raises ``ConversionError`` if it is missing."""
        value = self.config.get(key)
        if not isinstance(value, int):
            raise ConversionError(
                f"config.json in {self.directory} has no whole number {key!r}: fetch the model's files again"
            )
        return value

    def has(self, name: str) -> bool:
        """Return whether the checkpoint has a tensor of this name. Raises ``ConversionError``."""
        return name in self._tensors

    def source(self, name: str) -> Source:
        """Return a tensor that is read when its rows are taken.

        Raises ``ConversionError`` for a missing tensor, and for one of another type than F32, F16 and BF16.
        """
        entry = self._entry(name)
        if entry.dtype not in _TYPES:
            raise ConversionError(
                f"tensor {name} has type {entry.dtype}: only unquantised F32, F16 and BF16 weights can be"
                " converted"
            )
        return Source(entry.shape, lambda start, end: self._rows(entry, start, end))

    def _rows(self, entry: "_Entry", start: int, end: int) -> Array:
        """Read rows as float32. The file is not mapped, whose pages would count as this process's memory."""
        kind = np.dtype(_TYPES[entry.dtype])
        row = int(np.prod(entry.shape[1:], dtype=np.int64))
        count = row * (end - start)
        with entry.path.open("rb") as file:
            file.seek(entry.offset + start * row * kind.itemsize)
            raw = np.fromfile(file, kind, count)
        if len(raw) < count:
            raise ConversionError(f"{entry.path} became shorter: verify and fetch it again")
        self._progress(raw.nbytes)
        shape = (end - start, *entry.shape[1:])
        if entry.dtype == "BF16":  # numpy lacks the type
            return (raw.astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return raw.astype(np.float32, copy=False).reshape(shape)

    def _entry(self, name: str) -> "_Entry":
        entry = self._tensors.get(name)
        if entry is None:
            raise ConversionError(
                f"{self.directory} has no tensor {name}: the files are not a {self.architecture} checkpoint"
            )
        return entry

    @cached_property
    def _tensors(self) -> dict[str, "_Entry"]:
        """Map each tensor name to its place."""
        paths = weight_files(self.directory)
        if paths[0].suffix == ".bin":
            return {
                entry["name"]: _Entry(path, entry["dtype"], tuple(entry["shape"]), entry["offset"])
                for path, entry in pickled.tensors(paths)
            }
        return {name: entry for path in paths for name, entry in _entries(path)}


@dataclass(frozen=True, slots=True)
class _Entry:
    """The place of a tensor: its file, and its first byte there."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


def weight_files(directory: Path) -> list[Path]:
    """Return the weights' files: safetensors, else pickles. Raises ``ConversionError`` without any."""
    for index, pattern in (
        ("model.safetensors.index.json", "*.safetensors"),
        (pickled.INDEX, pickled.SINGLE),
    ):
        weights = _read_json(directory / index).get("weight_map") if (directory / index).exists() else None
        if weights:
            return sorted({directory / Path(str(name)).name for name in weights.values()})
        if paths := sorted(directory.glob(pattern)):
            return paths
    raise ConversionError(
        f"{directory} has neither safetensors nor {pickled.SINGLE}: choose a revision of the model with"
        " safetensors weights"
    )


def _entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    try:
        # The library checks the header, the offsets and the file's length.
        with safetensors.safe_open(path, framework="np"), path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (OSError, safetensors.SafetensorError) as error:
        raise ConversionError(
            f"{path} is not a complete safetensors file ({error}): verify and fetch it again"
        ) from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        yield name, _Entry(path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"cannot read {path} ({error}): fetch the model's files again") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path} does not contain a JSON object: fetch the model's files again")
    return value

"""Reads a checkpoint in Hugging Face's format (safetensors, one file or sharded) tensor by tensor."""

import json
import struct
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from serving.convert.errors import ConversionError

Array = NDArray[np.float32]


class Checkpoint:
    """The ``config.json`` and the tensors of one model folder; tensors are read on access."""

    def __init__(self, directory: Path) -> None:
        """Read ``config.json``. Raises ``ConversionError``."""
        self.directory = directory
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
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it. Raises ``ConversionError``."""
        with self._open(name) as file:
            return tuple(file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Array:
        """Return a tensor as a new, writable float32 array. Raises ``ConversionError`` for another type."""
        with self._open(name) as file:
            dtype = file.get_slice(name).get_dtype()
            if dtype in {"F32", "F16"}:
                return np.array(file.get_tensor(name), np.float32)
        if dtype == "BF16":
            return _read_bfloat16(self._files[name], name)
        raise ConversionError(
            f"tensor {name} has type {dtype}: only unquantised F32, F16 and BF16 weights can be converted"
        )

    def _open(self, name: str) -> Any:  # noqa: ANN401 -- safetensors ships no type for its file object
        path = self._files.get(name)
        if path is None:
            raise ConversionError(
                f"{self.directory} has no tensor {name}: the files are not a {self.architecture} checkpoint"
            )
        return _open(path)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Map each tensor name to the file that holds it."""
        index = self.directory / "model.safetensors.index.json"
        paths = (
            sorted({self.directory / name for name in _read_json(index)["weight_map"].values()})
            if index.exists()
            else []
        )
        paths = paths or sorted(self.directory.glob("*.safetensors"))
        if not paths:
            raise ConversionError(
                f"{self.directory} has no .safetensors file: choose a revision of the model with safetensors "
                "weights (pickle files are not read, because they can run code)"
            )
        files: dict[str, Path] = {}
        for path in paths:
            with _open(path) as file:
                files.update(dict.fromkeys(file.keys(), path))
        return files


def _open(path: Path) -> Any:  # noqa: ANN401 -- safetensors ships no type for its file object
    try:
        return safetensors.safe_open(path, framework="np")
    except (OSError, safetensors.SafetensorError) as error:
        raise ConversionError(
            f"{path} is not a complete safetensors file ({error}): verify and fetch it again"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"cannot read {path} ({error}): fetch the model's files again") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path} does not contain a JSON object: fetch the model's files again")
    return value


def _read_bfloat16(path: Path, name: str) -> Array:
    """Widen bfloat16 to float32: numpy lacks the type, so safetensors cannot return such an array."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        raw = np.frombuffer(file.read(end - start), np.uint16)
    return (raw.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])

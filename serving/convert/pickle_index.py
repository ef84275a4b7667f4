"""Prints where the tensors of pickled files are in them, as JSON. Runs with the interpreter that has torch.

No tensor is read: the file is mapped, and rows are read from it later, as from safetensors (checkpoint.py).
torch's unpickler for weights alone reads the rest; it calls nothing but what tensors are made of.
"""

import json
import os
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any

# Earlier ones could be made to run code in spite of `weights_only` (CVE-2025-32434).
_OLDEST = (2, 6)
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def main(paths: list[str]) -> dict[str, Any]:
    """Return ``files``, an answer for each path, or an ``error``."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _OLDEST:
        return {"error": f"torch {torch.__version__} is too old to read pickles safely: install 2.6 or later"}
    # Whatever a file makes of this process, it puts no byte into another.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return {"files": [_read(torch, path) for path in paths]}


def _read(torch: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 -- torch is imported late
    """Return ``tensors``, or ``globals`` that the pickle asks for and must not get, or an ``error``."""
    try:
        if problem := _unreadable(path):
            return {"error": problem}
        if refused := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            return {"globals": sorted(refused)}
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
            return {"error": "it is not a table of tensors"}
        return {"tensors": [_entry(torch, str(name), tensor, path) for name, tensor in state.items()]}
    except Exception as error:  # noqa: BLE001 -- a damaged file can raise anything
        return {"error": _cause(error)}


def _unreadable(path: str) -> str | None:
    """Return why the tensors cannot be where torch would map them, or None."""
    if not zipfile.is_zipfile(path):
        return "it is not a zip file, as torch has written since 1.6, or is cut off"
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                return f"its part {info.filename} is compressed"
            if info.filename.endswith("/byteorder") and file.open(info).read(8) != b"little":
                return "its numbers are big-endian"
    return None


def _entry(torch: Any, name: str, tensor: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 -- torch is imported late
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_contiguous():
        return {"name": name, "dtype": f"{kind}, not stored row by row", "shape": [], "offset": 0}
    offset = _offset(tensor.data_ptr(), path) if tensor.numel() else 0
    return {"name": name, "dtype": _TYPES.get(kind, kind), "shape": list(tensor.shape), "offset": offset}


def _offset(address: int, path: str) -> int:
    """Return which byte of the file is mapped at an address."""
    real = os.path.realpath(path)
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        addresses, _, offset, _, _, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in addresses.split("-"))
        if start <= address < end and name == [real]:
            return address - start + int(offset, 16)
    raise ValueError("torch did not map the file")


def _cause(error: Exception) -> str:
    """Return the line of torch's message that names the cause: the first one advises to run the code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next(
        (line for line in lines if line.startswith(("Unsupported", "Trying to"))), lines[0] if lines else ""
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])))

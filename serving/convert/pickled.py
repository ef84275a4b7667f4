"""Pickled checkpoints (``pytorch_model.bin``, one file or shards): where each tensor is in its file.

A pickle can run code when it is read, so only torch's reader for weights alone sees one, in a process and an
environment of its own: no other environment has torch (docs/adr/0021).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.convert import pickle_index
from serving.convert.errors import ConversionError

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# Names a Python with torch in place of the environment beside this one.
VARIABLE = "MODEL_LOADER_TORCH"
_TIMEOUT_S = 1800.0
_CAUSE_LENGTH = 300


def interpreter() -> Path:
    """Return the Python that has torch: the one that is named, else of the environment ``torch`` beside this.

    Raises ``ConversionError`` with the remedy where there is none.
    """
    named = os.environ.get(VARIABLE)
    python = Path(named) if named else Path(sys.prefix).parent / "torch" / "bin" / "python"
    if os.access(python, os.X_OK) and python.is_file():
        return python
    source = f"{VARIABLE} names" if named else "pickled weights are read with"
    raise ConversionError(
        f"{source} {python}, which is not there. In a clone, make the environment (2.3 GiB to download):"
        f" scripts/bootstrap .run/venvs/torch requirements/torch.txt; or set {VARIABLE} to a Python with"
        " torch 2.6 or later; in a container, use the image loader-torch (images/build loader-torch); or use"
        " a revision of the model with safetensors"
    )


def tensors(paths: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file with ``name``, ``dtype``, ``shape`` and ``offset`` (first byte) of each of its tensors.

    Nothing in the files is executed. Raises ``ConversionError`` for a pickle that asks for more than tensors
    are made of, with the names; for a damaged file; and where torch cannot be run.
    """
    for path, answer in zip(paths, _answers(paths), strict=True):
        if answer.get("globals"):
            names = ", ".join(map(str, answer["globals"]))[:_CAUSE_LENGTH]
            raise ConversionError(
                f"{path} is refused: its pickle asks for {names}, which weights do not need and which can run"
                " code; none of it ran. Use another revision of the model, or one with safetensors"
            )
        if problem := answer.get("error"):
            raise ConversionError(
                f"{path} cannot be read ({str(problem)[:_CAUSE_LENGTH]}): verify and fetch it again, or use a"
                " revision with safetensors"
            )
        for entry in answer["tensors"]:
            yield path, _checked(entry, path)


def _answers(paths: list[Path]) -> list[dict[str, Any]]:
    # Neither tokens nor the user's own packages: -I, and an environment without them.
    argv = [str(interpreter()), "-I", "-W", "ignore", pickle_index.__file__, *map(str, paths)]
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}
    try:
        run = subprocess.run(argv, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False)
        answer = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"torch took over {_TIMEOUT_S:.0f} s to list the tensors of {paths[0]}"
        ) from None
    except OSError as error:
        raise ConversionError(
            f"{argv[0]} cannot be run ({error.strerror}): make the environment again"
        ) from error
    except ValueError:
        said = run.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][-_CAUSE_LENGTH:]
        raise ConversionError(
            f"{argv[0]} ended with {run.returncode} and listed no tensors of {paths[0]}"
            f" ({said or 'no message'}): give the process 1 GiB of memory, or make the environment again"
        ) from None
    if problem := answer.get("error"):
        raise ConversionError(f"{argv[0]}: {problem}")
    return list(answer["files"])


def _checked(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    numbers = [*entry["shape"], entry["offset"]]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ConversionError(f"{path} has no valid place of {entry['name']}: verify and fetch it again")
    return entry

"""Converts published weights into the format of a runtime, with numpy alone: no torch, no transformers.

Weights are read and written by blocks of rows, so a conversion needs the memory of a part of one layer
(stackfile/memory.py), however large the model is.
"""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

from serving.convert.checkpoint import Checkpoint
from serving.convert.errors import ConversionError

__all__ = ["PRECISIONS", "ConversionError", "convert"]

_MODULES = {
    "ctranslate2": "serving.convert.to_ctranslate2",
    "llama_cpp": "serving.convert.to_gguf",
    "onnxruntime": "serving.convert.to_onnx",
}
_COMPANIONS = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PRECISIONS = {
    "ctranslate2": ("int8", "int8_float32", "int8_float16", "float16", "float32"),
    "llama_cpp": ("Q8_0", "F16", "F32"),
    "onnxruntime": ("int8",),
}


def convert(
    source_dir: Path,
    target_dir: Path,
    runtime: str,
    precision: str,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Convert a model in Hugging Face's format for a runtime.

    The result also has the files that a gateway reads (``tokenizer.json``, ``config.json`` and the chat
    template, if the model has one), so that a gateway and a server need only this folder.

    Args:
        source_dir: folder with ``config.json``, ``tokenizer.json`` and safetensors weights.
        target_dir: an existing empty folder. After an error its content is invalid and must be removed.
        runtime: a key of ``PRECISIONS``.
        precision: one of the runtime's ``PRECISIONS``, such as ``int8`` or ``Q8_0``.
        progress: called with the number of bytes of each part of the weights that was read.

    Raises:
        ConversionError: the model, the runtime or the precision is not supported, or a file is damaged; the
            message names the remedy.

    """
    _check(source_dir, target_dir, runtime, precision)
    module = importlib.import_module(
        _MODULES[runtime]
    )  # on use: a machine may have the wheels of one runtime only
    module.convert(Checkpoint(source_dir, progress), target_dir, precision)
    for name in _COMPANIONS:
        if (source_dir / name).is_file() and not (target_dir / name).exists():
            shutil.copyfile(source_dir / name, target_dir / name)


def _check(source_dir: Path, target_dir: Path, runtime: str, precision: str) -> None:
    if runtime not in PRECISIONS:
        raise ConversionError(f"unknown runtime {runtime!r}: choose one of {', '.join(PRECISIONS)}")
    if precision not in PRECISIONS[runtime]:
        choices = ", ".join(PRECISIONS[runtime])
        raise ConversionError(f"{runtime} has no precision {precision!r}: choose one of {choices}")
    if not source_dir.is_dir():
        raise ConversionError(
            f"{source_dir} is not a folder: fetch the model first (model-loader fetch MODEL)"
        )
    if not target_dir.is_dir() or any(target_dir.iterdir()):
        raise ConversionError(f"{target_dir} must be an existing empty folder")

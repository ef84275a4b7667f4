"""Turn published weights into what a runtime reads, with numpy alone: no torch, no transformers.

Weights are read tensor by tensor, so a conversion needs the memory of its result plus one tensor.
"""

import importlib
import shutil
from pathlib import Path

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


def convert(source_dir: Path, target_dir: Path, runtime: str, precision: str) -> None:
    """Convert the Hugging Face style model in ``source_dir`` for ``runtime`` into the empty ``target_dir``.

    The result holds what a gateway reads of a model too (``tokenizer.json``, ``config.json`` and, where there
    is one, the chat template), so that a gateway and a server need that directory alone. Raises
    ``ConversionError`` with the remedy; what ``target_dir`` then holds is to be thrown away.
    """
    _check(source_dir, target_dir, runtime, precision)
    module = importlib.import_module(_MODULES[runtime])  # here: a machine may have one runtime's wheels only
    module.convert(source_dir, target_dir, precision)
    for name in _COMPANIONS:
        if (source_dir / name).is_file() and not (target_dir / name).exists():
            shutil.copyfile(source_dir / name, target_dir / name)


def _check(source_dir: Path, target_dir: Path, runtime: str, precision: str) -> None:
    if runtime not in PRECISIONS:
        raise ConversionError(f"no runtime {runtime!r}: choose one of {', '.join(PRECISIONS)}")
    if precision not in PRECISIONS[runtime]:
        known = ", ".join(PRECISIONS[runtime])
        raise ConversionError(f"{runtime} has no precision {precision!r}: choose one of {known}")
    if not source_dir.is_dir():
        raise ConversionError(
            f"{source_dir} is not a directory: fetch the model first (model-loader fetch MODEL)"
        )
    if not target_dir.is_dir() or any(target_dir.iterdir()):
        raise ConversionError(f"{target_dir} must be an existing empty directory")

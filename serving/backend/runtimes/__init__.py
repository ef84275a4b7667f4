"""The runtimes that can generate text, behind one interface."""

from .base import Options, Runtime

__all__ = ["Options", "Runtime", "load"]


def load(name: str, options: Options) -> Runtime:
    """Load the model with the runtime of this name. Raises ``ValueError`` for an unknown one."""
    if name == "ctranslate2":
        from .ctranslate2 import CTranslate2Runtime  # a runtime's wheel may be absent: import on use

        return CTranslate2Runtime(options)
    if name == "llama_cpp":
        from .llama_cpp import LlamaCppRuntime

        return LlamaCppRuntime(options)
    if name == "onnxruntime":
        from .onnx_runtime import OnnxRuntime

        return OnnxRuntime(options)
    raise ValueError(
        f"unknown runtime {name!r}: the parameter 'runtime' must be ctranslate2, llama_cpp or onnxruntime"
    )

"""The runtimes that can generate text, behind one interface."""

import os

from .base import Options, Runtime

__all__ = ["Options", "Runtime", "load"]

# llama.cpp's threads meet at some 700 barriers a token, microseconds apart: a thread that sleeps at each of
# them, as OMP_WAIT_POLICY=PASSIVE has it (serving/tritonserver.py), costs a third of the speed. This is what
# libgomp does without a policy (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
_LLAMA_SPINS = 300_000


def load(name: str, options: Options) -> Runtime:
    """Load the model with the runtime of this name. Raises ``ValueError`` for an unknown one."""
    if name == "ctranslate2":
        from .ctranslate2 import CTranslate2Runtime  # a runtime's wheel may be absent: import on use

        return CTranslate2Runtime(options)
    if name == "llama_cpp":
        # libgomp reads it when it is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", str(_LLAMA_SPINS))
        from .llama_cpp import LlamaCppRuntime

        return LlamaCppRuntime(options)
    if name == "onnxruntime":
        from .onnx_runtime import OnnxRuntime

        return OnnxRuntime(options)
    raise ValueError(
        f"unknown runtime {name!r}: the parameter 'runtime' must be ctranslate2, llama_cpp or onnxruntime"
    )

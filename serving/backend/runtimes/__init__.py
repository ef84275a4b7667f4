"""The runtimes that can generate, behind one seam."""

from typing import Any

from .base import Options, Runtime

__all__ = ["Options", "Runtime", "load"]


def load(name: str, options: Options) -> Runtime:
    """Load the model with the runtime of this name. Raises ``ValueError`` for an unknown one."""
    factory: Any
    if name == "ctranslate2":
        from .ctranslate2 import CTranslate2Runtime as factory  # each runtime's wheel may be absent
    else:
        raise ValueError(f"no runtime {name!r}: the parameter 'runtime' must be ctranslate2 or llama_cpp")
    runtime: Runtime = factory(options)
    return runtime

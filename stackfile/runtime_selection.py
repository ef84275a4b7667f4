"""Selects the runtime and precision of a model where the stack says ``auto``, by measurement.

The measurements are facts of an accelerator (``catalogue/accelerators.yaml``). No runtime is imported: a
stack is also resolved on machines where none is installed.
"""

import math
from collections.abc import Sequence

from stackfile.catalogue import Measurement

# The architectures that serving.convert converts for a runtime; CTranslate2 takes every one of the catalogue.
ARCHITECTURES = {
    "llama_cpp": frozenset({"codegen", "gptj"}),
    "onnxruntime": frozenset({"codegen", "gptj"}),
}


def converts(runtime: str, architecture: str) -> bool:
    """Return whether safetensors of this architecture can be converted to the format of ``runtime``."""
    architectures = ARCHITECTURES.get(runtime)
    return architectures is None or architecture in architectures


def runtime(
    architecture: str,
    parameters: int,
    precisions: Sequence[str],
    measured: Sequence[Measurement],
) -> tuple[str, str]:
    """Return ``(runtime, precision)`` for a safetensors model with ``parameters`` weights.

    ``precisions`` are CTranslate2's on the accelerator, best first, and ``measured`` the measurements there.
    The fastest runtime at one stream, at the nearest measured size (by ratio), is selected: an editor waits
    for one stream. Without measurements the result is CTranslate2 in its best precision.
    """
    usable = [each for each in measured if converts(each.runtime, architecture)]
    if not usable:
        return "ctranslate2", next(iter(precisions), "none")
    distance = {each.parameters: abs(math.log(each.parameters / parameters)) for each in usable}
    nearest = min(distance, key=lambda size: distance[size])
    best = max((each for each in usable if each.parameters == nearest), key=lambda each: each.one_stream)
    return best.runtime, best.precision

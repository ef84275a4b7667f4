"""Selects the runtime and precision of a model where the stack says ``auto``, by measurement.

The measurements are facts of an accelerator (``catalogue/accelerators.yaml``). No runtime is imported: a
stack is also resolved on machines where none is installed.
"""

import math
from collections.abc import Collection, Sequence

from stackfile.catalogue import Measurement, runtimes


def converters(architecture: str) -> list[str]:
    """Return the runtimes for whose format safetensors of this architecture can be converted."""
    return [name for name, facts in runtimes().items() if architecture in facts.converts]


def unreadable(architecture: str, file_types: Collection[str]) -> str | None:
    """Return why llama.cpp cannot serve a GGUF model of this architecture, or None where it can.

    ``file_types`` are those that its weights can be had in.
    """
    facts = runtimes()["llama_cpp"]
    if architecture not in facts.reads:
        return f"the pinned llama.cpp generates no text with architecture {architecture!r}"
    if not set(file_types) & set(facts.file_types):
        return f"the pinned llama.cpp does not read weights of type {', '.join(file_types)}"
    return None


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
    usable = [each for each in measured if each.runtime in converters(architecture)]
    if not usable:
        return "ctranslate2", next(iter(precisions), "none")
    distance = {each.parameters: abs(math.log(each.parameters / parameters)) for each in usable}
    nearest = min(distance, key=lambda size: distance[size])
    best = max((each for each in usable if each.parameters == nearest), key=lambda each: each.one_stream)
    return best.runtime, best.precision

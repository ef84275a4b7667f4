"""Which runtime and precision serve a model, where the stack says ``auto``: chosen by measurement.

The measurements are facts of an accelerator (``catalogue/accelerators.yaml``). Standard library only: the
stack's reader asks this on machines without any runtime.
"""

import math
from collections.abc import Sequence
from typing import Protocol

# What serving.convert turns into a runtime's format; CTranslate2 reads every architecture of the catalogue.
ARCHITECTURES = {
    "llama_cpp": frozenset({"codegen", "gptj"}),
    "onnxruntime": frozenset({"codegen", "gptj"}),
}


class Measurement(Protocol):
    """How fast one runtime was with a model of ``parameters`` weights."""

    @property
    def parameters(self) -> int:
        """The size of the model."""
        ...

    @property
    def runtime(self) -> str:
        """A name of ``serving.backend.runtimes``."""
        ...

    @property
    def precision(self) -> str:
        """A name of ``serving.convert.PRECISIONS``."""
        ...

    @property
    def one_stream(self) -> float:
        """Tokens per second of one client: an editor waits for one stream, so that decides."""
        ...


def converts(runtime: str, architecture: str) -> bool:
    """Say whether safetensors of this architecture can be turned into what ``runtime`` reads."""
    known = ARCHITECTURES.get(runtime)
    return known is None or architecture in known


def runtime(
    architecture: str,
    parameters: int,
    precisions: Sequence[str],
    measured: Sequence[Measurement],
) -> tuple[str, str]:
    """Return ``(runtime, precision)`` for a safetensors model with ``parameters`` weights.

    ``precisions`` are what the accelerator offers CTranslate2, best first, and ``measured`` what was found on
    it. The fastest runtime of the measured size that is nearest (in proportion) wins; an accelerator that
    was never measured gets CTranslate2 in its best precision.
    """
    usable = [each for each in measured if converts(each.runtime, architecture)]
    if not usable:
        return "ctranslate2", next(iter(precisions), "none")
    distance = {each.parameters: abs(math.log(each.parameters / parameters)) for each in usable}
    nearest = min(distance, key=lambda size: distance[size])
    best = max((each for each in usable if each.parameters == nearest), key=lambda each: each.one_stream)
    return best.runtime, best.precision

"""How long the largest answer takes: the default of ``limits.deadline_s``, with its derivation.

The figures are those of one client alone. Beside others an answer may take longer: it then ends at the
deadline with what there is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stackfile import catalogue
from stackfile.catalogue import AcceleratorFacts, Measurement, ModelFacts
from stackfile.resolved import ResolvedStack
from stackfile.stack import LimitsSection

# No default is shorter: a queue, a cold cache or a busy machine takes seconds of it.
SHORTEST_S = 30.0
_STEP_S = 10.0
# Prompt tokens are read together: Qwen2.5-Coder 0.5B reads 198 tokens/s and generates 51 on two cores. A GPU
# has more arithmetic for each byte that it reads.
_READING_CPU, _READING_GPU = 4.0, 20.0
# Each token reads all weights. A runtime reaches about half of a device's bandwidth, and a small model waits
# for the start of its kernels instead.
_BANDWIDTH_SHARE = 0.5
_MOST_ESTIMATED = 100.0
# Bytes of a weight by precision; a quantised type's scales are included.
_BYTES = {"int8": 1.0, "Q8_0": 1.06, "float32": 4.0, "F32": 4.0}
_BYTES_OTHERWISE = 2.0
_GIB, _GB = 2**30, 1e9
# From here on a figure is printed without decimals.
_WHOLE = 100


@dataclass(frozen=True, slots=True)
class Deadline:
    """The seconds that the largest answer takes, and the default made of them. ``derivation`` says how."""

    needed_s: float
    default_s: float
    derivation: str


def derive(
    model: ModelFacts,
    device: AcceleratorFacts,
    runtime: str,
    precision: str,
    *,
    max_tokens: int,
    context_length: int,
) -> Deadline:
    """Return the deadline for ``max_tokens`` tokens after the longest prompt that then fits the context.

    A shorter answer after a longer prompt takes less: a token is read faster than one is generated.
    """
    speed, source = _speed(model, device, runtime, precision)
    tokens = min(max_tokens, context_length)
    prompt = max(0, context_length - tokens)
    reading = speed * (_READING_GPU if device.is_gpu else _READING_CPU)
    needed = tokens / speed + prompt / reading
    default = max(SHORTEST_S, math.ceil(needed / _STEP_S) * _STEP_S)
    derivation = (
        f"{tokens} tokens at {_figure(speed)} tokens/s, after a prompt of {prompt} at {_figure(reading)},"
        f" take {needed:.0f} s ({source})"
    )
    return Deadline(needed, default, derivation)


def of_stack(stack: ResolvedStack) -> Deadline:
    """Return what the largest answer of a resolved stack takes."""
    return derive(
        stack.model, catalogue.accelerators()[stack.accelerator.kind], stack.runtime, stack.precision,
        max_tokens=stack.limits.max_tokens, context_length=stack.context_length,
    )  # fmt: skip


def complete(limits: LimitsSection, needed: Deadline) -> LimitsSection:
    """Return the limits with a deadline and a grace period, where the stack sets none."""
    given = limits.model_fields_set
    deadline_s = limits.deadline_s if "deadline_s" in given else needed.default_s
    grace_s = limits.grace_s if "grace_s" in given else max(SHORTEST_S, deadline_s)
    return limits.model_copy(update={"deadline_s": deadline_s, "grace_s": grace_s})


def words(stack: ResolvedStack) -> str:
    """Return the stack's deadline and its derivation; a shorter one than needed is said to be."""
    needed, deadline_s = of_stack(stack), stack.limits.deadline_s
    text = f"{deadline_s:g} s; {needed.derivation}"
    if deadline_s < needed.needed_s:
        text += ". limits.deadline_s is set lower: the longest answers will end early, with what there is"
    return text


def _speed(model: ModelFacts, device: AcceleratorFacts, runtime: str, precision: str) -> tuple[float, str]:
    """Return tokens per second of one client, and where the figure comes from."""
    size = _weights(model, precision)
    nearest = _nearest(device.measured, runtime, precision, size)
    if nearest is not None:
        measured = nearest.parameters * _BYTES.get(nearest.precision, _BYTES_OTHERWISE)
        source = f"{nearest.one_stream:g} tokens/s measured with {measured / _GB:.3g} GB of weights"
        return nearest.one_stream * measured / size, f"{source}, scaled to {size / _GB:.3g} GB"
    speed = min(_MOST_ESTIMATED, _BANDWIDTH_SHARE * device.memory_gb_s * _GB / size)
    return speed, f"estimated from {size / _GB:.3g} GB of weights and {device.memory_gb_s:g} GB/s of memory"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= _WHOLE else f"{value:.3g}"


def _weights(model: ModelFacts, precision: str) -> float:
    """Return the bytes of the weights; a precision that the catalogue does not list counts as 16 bits."""
    gib = model.memory_gib.get(precision)
    return gib * _GIB if gib else model.parameters * _BYTES.get(precision, _BYTES_OTHERWISE)


def _nearest(
    measured: Sequence[Measurement], runtime: str, precision: str, size: float
) -> Measurement | None:
    """Return the runtime's measurement of the nearest size, by ratio; of equal ones the same precision."""

    def distance(each: Measurement) -> tuple[float, bool]:
        weights = each.parameters * _BYTES.get(each.precision, _BYTES_OTHERWISE)
        return abs(math.log(weights / size)), each.precision != precision

    return min((each for each in measured if each.runtime == runtime), key=distance, default=None)

"""The processor instructions that the model runtimes under test may use: ``ASSIST_TEST_ISA`` names one set.

The same int8 model gives other text on another processor: without AVX-512 VNNI, oneDNN adds products in 16 bits, which
saturate. No test may depend on that, so CI runs the serving tests once with each set that its machine has.

What obeys: CTranslate2's own kernels (CT2_FORCE_CPU_ISA), and the library that multiplies its matrices, oneDNN
(ONEDNN_MAX_CPU_ISA) or Intel's MKL, which CTranslate2 takes on Intel's processors unless CT2_USE_MKL says otherwise.
What has no such setting: llama.cpp, whose wheel is compiled for AVX2, and onnxruntime, which uses all that it finds.

``python -m testing.instruction_sets`` prints the sets of this machine, one a line.
"""

import os
import platform
import sys
from pathlib import Path

import pytest

VARIABLE = "ASSIST_TEST_ISA"
# CT2_USE_MKL is set in each, so that every set means the same on Intel's and AMD's processors.
_SETS = {
    "GENERIC": {"CT2_FORCE_CPU_ISA": "GENERIC", "CT2_USE_MKL": "0", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"CT2_FORCE_CPU_ISA": "AVX2", "CT2_USE_MKL": "0", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX512": {"CT2_FORCE_CPU_ISA": "AVX512", "CT2_USE_MKL": "0", "ONEDNN_MAX_CPU_ISA": "ALL"},
    "MKL": {"CT2_USE_MKL": "1"},
}
# What /proc/cpuinfo must list before CTranslate2 takes the kernels of this name.
_NEEDS = {
    "GENERIC": {"sse4_1"},
    "AVX2": {"avx2", "fma"},
    "AVX512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "MKL": {"sse4_2"},
}
# Without these, a server under test logs nothing of what it chose.
_VERBOSE = {"CT2_VERBOSE": "1"}


def of_this_machine(cpuinfo: str | None = None, machine: str | None = None) -> list[str]:
    """Return the names of the sets that the processor has; none on another architecture than x86-64."""
    if (machine or platform.machine()) != "x86_64":
        return []
    text = Path("/proc/cpuinfo").read_text("utf-8") if cpuinfo is None else cpuinfo
    flags: set[str] = next(
        (set(line.split()) for line in text.splitlines() if line.startswith("flags")), set()
    )
    return [name for name, needed in _NEEDS.items() if needed <= flags]


def environment(name: str) -> dict[str, str]:
    """Return the variables that put the set of this name in force in a process that starts with them.

    Raises ``ValueError`` with the choices where the machine has no such set.
    """
    here = of_this_machine()
    if name not in here:
        raise ValueError(f"{VARIABLE}={name}: this machine has {', '.join(here) or 'none of the sets'}")
    return _SETS[name] | _VERBOSE


def in_force() -> dict[str, str]:
    """Return the chosen set's variables, for a server that is started with an environment of its own."""
    chosen = os.environ.get(VARIABLE, "")
    return environment(chosen) if chosen else {}


def pytest_configure() -> None:
    """Set the variables before any test imports a runtime; worker processes inherit them."""
    try:
        os.environ.update(in_force())
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header() -> str:
    """Name the set that the model runtimes use, as tests/serving/test_instruction_sets.py proves."""
    chosen = os.environ.get(VARIABLE)
    return f"instruction set: {chosen or 'whatever the runtimes find'} ({VARIABLE})"


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}\n" for name in of_this_machine())

"""Declared and measured memory: ``python -m benchmarks.bench_memory``, with the cases of the stock stacks.

Each engine runs inside a control group of its declared size (root, or a container with --privileged) and
answers with every slot at full context. Real models are fetched by the project's loader; CodeGen's weights
are random, in the true shape. Takes an hour on two cores; ``--only tiny`` takes one minute.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.support.memory_limits import Case, UnavailableError, measure

QWEN = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
CASES = (
    Case("tiny-codegen", "ctranslate2", "int8", context=2048, slots=9),
    Case("tiny-codegen", "onnxruntime", "int8", context=2048, slots=9),
    Case("tiny-codegen", "llama_cpp", "Q8_0", context=2048, slots=9),
    Case(QWEN, "llama_cpp", "Q4_K_M", context=2048, slots=3),
    Case(QWEN, "llama_cpp", "Q4_K_M", context=8192, slots=9),
    Case("smollm2-135m-instruct-Q4_1", "llama_cpp", "Q4_1", context=8192, slots=4),
    Case("qwen2.5-coder-1.5b-instruct-Q4_K_M", "llama_cpp", "Q4_K_M", context=4096, slots=2),
    Case("codegen-350M-mono", "onnxruntime", "int8", context=2048, slots=9),
    Case("codegen-2B-multi", "ctranslate2", "int8", context=2048, slots=1),
)
HEADER = """| model | runtime | slots x tokens | declared MiB | measured MiB | killed |
|---|---|---|---|---|---|"""


def main() -> int:
    """Print a row for each case; return 1 where one was killed or did not answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="the cases whose model's name contains this")
    only = parser.parse_args().only
    failed = False
    sys.stdout.write(f"{HEADER}\n")
    for case in CASES:
        if only not in case.model:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                found = measure(case, Path(work))
            except UnavailableError as error:
                sys.stderr.write(f"{case.model} cannot be fetched: {error}\n")
                continue
        failed |= found.killed > 0 or found.answers < case.slots
        what = f"{case.model} | {case.runtime} {case.precision} | {case.slots} x {case.context}"
        sys.stdout.write(f"| {what} | {found.declared_mib} | {found.peak_mib} | {found.killed} |\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

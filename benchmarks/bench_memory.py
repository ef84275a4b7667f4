"""Declared and measured memory: ``python -m benchmarks.bench_memory``, with the cases of the stock stacks.

Each engine runs inside a control group of its declared size (root, or a container with --privileged) and
answers with every slot at full context. Real models are fetched by the project's loader; CodeGen's and
Mistral's weights are random, in the true shape, and Mistral's prompts are shorter. Takes hours on two cores;
``--only tiny`` takes one minute.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.support.memory_cases import LONG, SHORT
from benchmarks.support.memory_limits import measure
from testing.models import UnreachableError

COLUMNS = (
    "case",
    "model",
    "runtime",
    "slots x tokens",
    "declared MiB",
    "held MiB",
    "with files",
    "killed",
    "minutes",
)


def main() -> int:
    """Print a row for each case; return 1 where one was killed or did not answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="the cases whose name contains this")
    parser.add_argument("--prompt", type=int, help="tokens of each prompt (default: a full context)")
    given = parser.parse_args()
    failed = False
    sys.stdout.write(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n")
    for name, stated in (SHORT | LONG).items():
        if given.only not in name:
            continue
        case = replace(stated, prompt=given.prompt or stated.prompt)
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            try:
                found = measure(case, Path(work))
            except UnreachableError as error:
                sys.stderr.write(f"{case.model} cannot be fetched: {error}\n")
                continue
        failed |= found.killed > 0 or found.answers < case.slots
        what = f"{name} | {case.model} | {case.runtime} {case.precision} | {case.slots} x {case.context}"
        result = f"{found.declared_mib} | {found.held_mib} | {found.peak_mib} | {found.killed}"
        sys.stdout.write(f"| {what} | {result} | {(time.monotonic() - start) / 60:.1f} |\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

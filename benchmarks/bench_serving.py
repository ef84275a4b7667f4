"""Measure our serving against transformers and torch, on a randomly initialised CodeGen-350M.

Goals: with one stream at least 3 times the tokens per second of transformers, and with 8 clients at least 3
times those of one client. Weights, prompt, machine and number of threads are the same; transformers keeps
its KV cache and runs in the weights' next wider type, float32 (and, for comparison, bfloat16). Only this
benchmark installs torch, in a separate virtual environment. The weights are random, because speed does not
depend on their values.

All contenders are loaded at once and take turns. Each result is the contender's best round, because other
load only ever adds time; tokens per second of processor time hardly depend on other load.

The results, written to catalogue/accelerators.yaml, decide ``runtime: auto``.
"""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from benchmarks.support import contenders, random_codegen
from benchmarks.support.contenders import MOST_CLIENTS, Contender, Speed
from stackfile import runtime_selection
from stackfile.catalogue import accelerators

WORK = Path(__file__).parent / ".work"
PAIRS = [("ctranslate2", "int8"), ("llama_cpp", "Q8_0"), ("onnxruntime", "int8")]
BASELINES = ["float32", "bfloat16"]
# A request of tiny-codegen's shape takes milliseconds, so a round has more of them.
SIZES = {
    "350m": (357_000_000, random_codegen.CODEGEN_350M, 1),
    "tiny": (2_600_000, random_codegen.TINY, 20),
}

Speeds = dict[tuple[str, int], Speed]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if the goals are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="Rounds, after one to warm up.")
    parser.add_argument("--size", choices=SIZES, default="350m")
    parser.add_argument("--threads", type=int, default=contenders.CORES, help="Threads of each contender.")
    parser.add_argument("--without-torch", action="store_true", help="our runtimes only, and their ratio")
    options = parser.parse_args(arguments)
    parameters, shape, requests = SIZES[options.size]
    # End in order at SIGTERM: the servers have their own process groups and would keep running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    WORK.mkdir(exist_ok=True)
    model = random_codegen.make(WORK / f"codegen-{options.size}", shape)
    with contextlib.ExitStack() as stack:
        ours = {pair: stack.enter_context(contenders.served(model, *pair, options.threads)) for pair in PAIRS}
        dtypes = [] if options.without_torch else BASELINES
        theirs = [
            stack.enter_context(contenders.transformers(model, dtype, options.threads)) for dtype in dtypes
        ]
        speeds = compete([*theirs, *ours.values()], options.rounds, requests)
    cpu = accelerators()["cpu"]
    chosen = ours[
        runtime_selection.runtime("codegen", parameters, cpu.precisions["ctranslate2"], cpu.measured)
    ]
    title = f"random CodeGen, {parameters / 1e6:.1f} M parameters, {options.threads} threads each"
    show(speeds, title, chosen.name)
    return 0 if print_ratios(speeds, chosen, theirs[0] if theirs else None) else 1


def compete(all_of_them: list[Contender], rounds: int, requests: int) -> Speeds:
    """Let the contenders take turns; return the best of their rounds by name and clients."""
    best: Speeds = {}
    for number in range(rounds + 1):
        for contender in all_of_them:
            for clients in sorted({1, contender.most_clients}):
                speed = contenders.measure(contender, clients, requests)
                if number:
                    key = (contender.name, clients)
                    old = best.get(key, speed)
                    best[key] = Speed(max(old.wall, speed.wall), max(old.cpu, speed.cpu))
    return best


def show(speeds: Speeds, title: str, chosen: str) -> None:
    """Print the table."""
    print(
        f"{title}, {contenders.PROMPT} + {contenders.TOKENS} tokens, {contenders.CORES} cores,"
        f" load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'tokens/s':34}{'1 client':>12}{f'{MOST_CLIENTS} clients':>12}{'per CPU s: 1':>15}{'8':>10}")
    for name in dict.fromkeys(name for name, _ in speeds):
        one, many = speeds[name, 1], speeds.get((name, MOST_CLIENTS))
        walls = f"{one.wall:12.1f}" + (f"{many.wall:12.1f}" if many else f"{'-':>12}")
        cpus = f"{one.cpu:15.1f}" + (f"{many.cpu:10.1f}" if many else f"{'-':>10}")
        print(f"{name:34}{walls}{cpus}{'   <- chosen' if name == chosen else ''}")


def print_ratios(speeds: Speeds, chosen: Contender, baseline: Contender | None) -> bool:
    """Print the ratios; return whether the targets are met."""
    one, many = speeds[chosen.name, 1], speeds[chosen.name, MOST_CLIENTS]
    ratios = [(f"{MOST_CLIENTS} clients vs one, {chosen.name}", many, one)]
    if baseline is not None:
        ratios.insert(0, (f"one stream, {chosen.name} vs {baseline.name}", one, speeds[baseline.name, 1]))
    for name, above, below in ratios:
        ratio = above.wall / below.wall
        per_cpu = f"per CPU second {above.cpu / below.cpu:.2f}x"
        print(f"{name}: {ratio:.2f}x (target 3x: {'met' if ratio >= 3 else 'NOT met'}; {per_cpu})")
    return all(above.wall / below.wall >= 3 for _, above, below in ratios)


if __name__ == "__main__":
    sys.exit(main())

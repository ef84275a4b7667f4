"""Measure our serving against transformers and torch, on a randomly initialised CodeGen-350M.

Targets (issue 3): at one stream at least 3 times the tokens per second of transformers, and 8 clients at
least 3 times one client. torch is installed into a virtual environment of its own, here alone; weights are
random, because speed does not depend on their values. Times are the best of several runs, as other load only
ever adds to them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype

from benchmarks.support import random_codegen
from serving import choose
from serving.convert import convert
from serving.repository import Repository, generate
from tests.support.triton import Triton

WORK = Path(__file__).parent / ".work"
TORCH = ["torch==2.15.0", "transformers==5.23.0"]
PROMPT, TOKENS, CLIENTS = 32, 64, 8
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Result:
    """One line of the table, in tokens per second."""

    name: str
    one: float
    many: float | None = None


def torch_baseline(model: Path, dtype: str, repeats: int) -> Result:
    """Measure transformers; installs it on first use."""
    python = WORK / "torch" / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, WORK / "torch"], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *TORCH], check=True)
    script = Path(random_codegen.__file__).with_name("torch_baseline.py")
    options = {"dtype": dtype, "threads": CORES, "prompt": PROMPT, "tokens": TOKENS, "repeats": repeats}
    argv = [
        python,
        script,
        model,
        *(part for key, value in options.items() for part in (f"--{key}", str(value))),
    ]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True)
    return Result(f"transformers, torch {dtype}", json.loads(answer.stdout.splitlines()[-1])["tokens_per_s"])


def ours(model: Path, runtime: str, precision: str, repeats: int) -> Result:
    """Measure a real tritonserver through gRPC, converting the model on first use."""
    converted = WORK / f"{model.name}.{runtime}-{precision}"
    if not converted.exists():
        with tempfile.TemporaryDirectory(dir=WORK) as fresh:
            convert(model, Path(fresh), runtime, precision)
            Path(fresh).rename(converted)
            Path(fresh).mkdir()
    with tempfile.TemporaryDirectory(dir=WORK) as place:
        described = Repository(
            model_dir=converted, runtime=runtime, precision=precision, context_length=2048,
            intra_threads=CORES, max_batch_size=CLIENTS,
        )  # fmt: skip
        generate(Path(place) / "repository", described)
        server = Triton(Path(place) / "repository", converted, Path(place) / "triton.log")
        server.start()
        try:
            one = best(server, 1, repeats)
            many = best(server, CLIENTS, repeats)
        finally:
            server.kill()
    return Result(f"tritonserver, {runtime} {precision}", one, many)


def best(server: Triton, clients: int, repeats: int) -> float:
    """Return tokens per second over all clients, each with one request at a time."""
    rates = []
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            made = sum(pool.map(lambda k: complete(server, k), range(clients)))
            rates.append(made / (time.perf_counter() - begin))
    return max(rates[1:])


def complete(server: Triton, client: int) -> int:
    """Run one greedy request; return how many tokens it made."""
    ids = np.arange(1, PROMPT + 1, dtype=np.uint32)[None] + client
    tensors = {
        "input_ids": ids,
        "input_lengths": np.array([[PROMPT]], np.uint32),
        "request_output_len": np.array([[TOKENS]], np.uint32),
        "runtime_top_k": np.array([[1]], np.uint32),
    }
    inputs = []
    for name, array in tensors.items():
        each = grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        each.set_data_from_numpy(array)
        inputs.append(each)
    with grpc.InferenceServerClient(server.grpc) as connection:
        answer = connection.infer("fastertransformer", inputs)
    made = int(answer.as_numpy("sequence_length")[0, 0]) - PROMPT
    assert made == TOKENS, f"{made} tokens instead of {TOKENS}"
    return made


def show(results: list[Result], chosen: Result, baseline: Result) -> bool:
    """Print the table and the two ratios; return whether both targets are met."""
    print(f"random CodeGen-350M, {PROMPT} + {TOKENS} tokens, {CORES} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':36}{'1 client':>12}{f'{CLIENTS} clients':>12}   tokens/s")
    for result in results:
        many = f"{result.many:12.1f}" if result.many else f"{'-':>12}"
        print(f"{result.name:36}{result.one:12.1f}{many}{'   <- chosen' if result is chosen else ''}")
    assert chosen.many is not None
    ratios = [
        (f"one stream, {chosen.name} vs {baseline.name}", chosen.one / baseline.one),
        (f"{CLIENTS} clients vs one, {chosen.name}", chosen.many / chosen.one),
    ]
    for name, ratio in ratios:
        print(f"{name}: {ratio:.2f}x (target 3x: {'met' if ratio >= 3 else 'NOT met'})")
    return all(ratio >= 3 for _, ratio in ratios)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if the targets are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--without-torch", action="store_true", help="our runtimes only, without the ratio to torch"
    )
    options = parser.parse_args(arguments)
    WORK.mkdir(exist_ok=True)
    model = random_codegen.make(WORK / "codegen-350m")
    pairs = [("ctranslate2", "int8"), ("llama_cpp", "Q8_0")]
    served = {pair: ours(model, *pair, options.repeats) for pair in pairs}
    chosen = served[choose.runtime("codegen", 357_000_000, "cpu")]
    if options.without_torch:
        return 0 if show([*served.values()], chosen, chosen) else 1
    baselines = [torch_baseline(model, dtype, options.repeats) for dtype in ("float32", "bfloat16")]
    return 0 if show([*baselines, *served.values()], chosen, baselines[0]) else 1


if __name__ == "__main__":
    sys.exit(main())

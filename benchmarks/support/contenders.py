"""The contenders of the serving benchmark: our tritonserver with a runtime, and transformers with torch."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
import tritonclient.grpc as grpc

from benchmarks.support import random_codegen
from serving.convert import convert
from serving.model_repository import Repository, generate
from testing.servers.triton import Triton
from testing.triton_inputs import inputs

PROMPT, TOKENS, MOST_CLIENTS = 32, 64, 8
CORES = len(os.sched_getaffinity(0))
TORCH = ["torch==2.15.0", "transformers==5.23.0"]


@dataclass(frozen=True)
class Speed:
    """Tokens per second of wall time and of processor time."""

    wall: float
    cpu: float


class Contender(Protocol):
    """A loaded model that generates tokens."""

    name: str
    pid: int
    most_clients: int

    def complete(self, client: int) -> int:
        """Run one greedy request of ``PROMPT`` tokens; return the number of generated tokens."""
        ...


def measure(contender: Contender, clients: int, requests: int) -> Speed:
    """Let every client make ``requests`` requests, one at a time; return the speed."""
    cpu, begin = _cpu_s(contender.pid), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        made = sum(
            pool.map(lambda client: sum(contender.complete(client) for _ in range(requests)), range(clients))
        )
    wall = time.perf_counter() - begin
    assert made == clients * requests * TOKENS, f"{made} tokens instead of {clients * requests * TOKENS}"
    return Speed(made / wall, made / (_cpu_s(contender.pid) - cpu))


def _cpu_s(pid: int) -> float:
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


class _Served:
    """A real tritonserver, called by gRPC."""

    most_clients = MOST_CLIENTS

    def __init__(self, name: str, server: Triton) -> None:
        self.name = name
        self.pid = server.pid
        self._clients = [grpc.InferenceServerClient(server.grpc) for _ in range(MOST_CLIENTS)]

    def complete(self, client: int) -> int:
        ids = np.arange(1, PROMPT + 1, dtype=np.uint32)[None] + client
        tensors = {
            "input_ids": ids,
            "input_lengths": np.array([[PROMPT]], np.uint32),
            "request_output_len": np.array([[TOKENS]], np.uint32),
            "runtime_top_k": np.array([[1]], np.uint32),
        }
        answer = self._clients[client].infer("fastertransformer", inputs(tensors))
        return int(answer.as_numpy("sequence_length")[0, 0]) - PROMPT


@contextlib.contextmanager
def served(model: Path, runtime: str, precision: str, threads: int) -> Iterator[Contender]:
    """Start a tritonserver with the model, which is converted at the first use."""
    work = model.parent
    converted = work / f"{model.name}.{runtime}-{precision}"
    if not converted.exists():
        fresh = Path(tempfile.mkdtemp(dir=work))
        convert(model, fresh, runtime, precision)
        fresh.rename(converted)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        described = Repository(
            model_dir=converted, runtime=runtime, precision=precision, context_length=2048,
            intra_threads=threads, max_batch_size=MOST_CLIENTS,
        )  # fmt: skip
        generate(Path(folder) / "repository", described)
        server = Triton(Path(folder) / "repository", converted, Path(folder) / "triton.log")
        server.start()
        try:
            yield _Served(f"tritonserver, {runtime} {precision}", server)
        finally:
            server.kill()


class _Torch:
    """transformers in its own process, one request at a time."""

    most_clients = 1

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    def answer(self) -> dict[str, object]:
        """Read the next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        answer: dict[str, object] = json.loads(line)
        return answer

    def complete(self, client: int) -> int:  # noqa: ARG002 -- there is only one client
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(str(self.answer()["tokens"]))


@contextlib.contextmanager
def transformers(model: Path, dtype: str, threads: int) -> Iterator[Contender]:
    """Start transformers, installed at the first use, with the same weights and number of threads."""
    environment = model.parent / "torch"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, environment], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *TORCH], check=True)
    script = Path(random_codegen.__file__).with_name("torch_baseline.py")
    options = {"dtype": dtype, "threads": threads, "prompt": PROMPT, "tokens": TOKENS}
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    with subprocess.Popen(
        [python, script, model, *flags],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TQDM_DISABLE": "1"},
    ) as process:
        contender = _Torch(f"transformers, torch {dtype}", process)
        assert contender.answer()["threads"] == threads
        try:
            yield contender
        finally:
            process.kill()

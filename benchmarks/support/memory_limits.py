"""Runs an engine inside a control group of exactly its declared size, with every slot at full context."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import tritonclient.grpc as grpc

from benchmarks.support import random_codegen
from serving.convert import convert
from serving.model_repository import STREAM, UNARY, Repository, generate
from stackfile.catalogue import ROOT, models
from stackfile.memory import Use
from testing.cgroup import memory_group
from testing.servers.triton import Triton
from testing.triton_inputs import inputs

NEW_TOKENS = 4
ANSWER_S = 3600.0
STORE = Path(os.environ.get("MODEL_STORE", ROOT / ".run/models"))
SHAPES = {"codegen-350M": random_codegen.CODEGEN_350M, "codegen-2B": random_codegen.CODEGEN_2B}


class UnavailableError(Exception):
    """The model cannot be had here; the message has the loader's reason."""


@dataclass(frozen=True)
class Case:
    """A model as it is served on a CPU: ``slots`` requests of ``context`` tokens."""

    model: str
    runtime: str
    precision: str
    context: int
    slots: int

    @property
    def declared_mib(self) -> int:
        """What ``stackfile.memory`` says that Triton takes."""
        facts = models()[self.model]
        return Use(facts, self.runtime, self.precision, self.context, self.slots).host


@dataclass(frozen=True)
class Measured:
    """What happened at full load: ``answers`` of full context, and the group's peak in MiB."""

    declared_mib: int
    peak_mib: int
    answers: int
    killed: int


def measure(case: Case, work: Path) -> Measured:
    """Serve the case from ``work`` within its declared memory. Raises ``UnavailableError``."""
    folder = model_folder(case, work)
    described = Repository(
        model_dir=folder, runtime=case.runtime, precision=case.precision, context_length=case.context,
        slots=case.slots, intra_threads=0, max_batch_size=64,
    )  # fmt: skip
    generate(work / "repository", described)
    _forget(folder)
    with memory_group(case.declared_mib) as group:
        server = Triton(work / "repository", folder, work / "triton.log", group.wrapped)
        server.start()
        try:
            answers = sum(answered(server.grpc, case))
        finally:
            server.kill()
        return Measured(case.declared_mib, group.peak_mib, answers, group.killed)


def _forget(folder: Path) -> None:
    """Drop the model's file pages, which otherwise count for the group of their first reader."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def model_folder(case: Case, work: Path) -> Path:
    """Return the folder to serve: fetched by the project's loader, or with random weights of that shape."""
    facts = models()[case.model]
    if facts.format == "gguf":
        argv = [sys.executable, "-m", "model_loader", "fetch", case.model, "--store", STORE]
        run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            raise UnavailableError(run.stderr[-500:] or run.stdout[-500:])
        return STORE / case.model / "current"
    shape = next((sizes for name, sizes in SHAPES.items() if case.model.startswith(name)), None)
    source = random_codegen.make(work / "model", shape) if shape else ROOT / "models" / case.model
    target = work / "converted"
    target.mkdir()
    convert(source, target, case.runtime, case.precision)
    return target


def answered(address: str, case: Case) -> Iterator[bool]:
    """Ask for as many answers at once as there are slots; yield whether each has all of its tokens.

    One of them is streamed: each kind leaves a slot to the other.
    """
    with ThreadPoolExecutor(case.slots) as pool:
        asked = [
            pool.submit(_streamed if index == 0 else _whole, address, case, index)
            for index in range(case.slots)
        ]
        for each in asked:
            yield each.result(timeout=ANSWER_S) == NEW_TOKENS


def _inputs(case: Case, index: int) -> list[grpc.InferInput]:
    """Return a prompt that leaves room for ``NEW_TOKENS``; no two indices share a prefix."""
    length = case.context - NEW_TOKENS
    random = np.random.default_rng(index)
    tensors = {
        "input_ids": random.integers(100, models()[case.model].vocabulary * 9 // 10, (1, length), np.uint32),
        "input_lengths": np.array([[length]], np.uint32),
        "request_output_len": np.array([[NEW_TOKENS]], np.uint32),
        "runtime_top_k": np.array([[1]], np.uint32),
        # No token ends the answer before its length.
        "end_id": np.array([[1]], np.uint32),
    }
    return inputs(tensors)


def _whole(address: str, case: Case, index: int) -> int:
    client = grpc.InferenceServerClient(address)
    answer = client.infer(UNARY, _inputs(case, index), client_timeout=ANSWER_S)
    return int(answer.as_numpy("sequence_length")[0, 0]) - (case.context - NEW_TOKENS)


def _streamed(address: str, case: Case, index: int) -> int:
    client, events = grpc.InferenceServerClient(address), SimpleQueue[tuple[object, object]]()
    client.start_stream(lambda result, error: events.put((result, error)))
    client.async_stream_infer(STREAM, _inputs(case, index), enable_empty_final_response=True)
    total = 0
    while True:
        result, error = events.get(timeout=ANSWER_S)
        if error is not None:
            raise RuntimeError(f"the stream failed: {error}")
        if result.get_response().parameters["triton_final_response"].bool_param:  # type: ignore[attr-defined]
            client.stop_stream()
            return total
        total += result.as_numpy("output_ids")[0, 0].size  # type: ignore[attr-defined]

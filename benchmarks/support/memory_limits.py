"""Runs an engine inside a control group of exactly its declared size, with every slot at full context."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import httpx
import numpy as np
import tritonclient.grpc as grpc

from benchmarks.support import random_codegen, random_mistral
from benchmarks.support.memory_cases import Case
from serving.convert import convert
from serving.model_repository import STREAM, UNARY, Repository, generate
from stackfile.catalogue import ROOT, models
from testing.cgroup import MemoryGroup, memory_group
from testing.models import fetch
from testing.servers.llama_server import running_llama
from testing.servers.triton import Triton
from testing.triton_inputs import inputs
from testing.until import until

NEW_TOKENS = 4
# A real model goes on with a text that repeats itself, and ends one that is noise.
_PERIOD = 24
START_S = 900.0
ANSWER_S = 6 * 3600.0
SHAPES = {"codegen-350M": random_codegen.CODEGEN_350M, "codegen-2B": random_codegen.CODEGEN_2B}
# Two threads that wait for each other at every step are slower than one where others use the cores, too. The
# memory is the same but for some hundred KiB.
THREADS = 1


@dataclass(frozen=True)
class Measured:
    """What happened at full load: ``answers`` of full context, and the group's peaks in MiB.

    ``peak_mib`` includes pages of files that were read and could have been dropped, ``held_mib`` does not.
    """

    declared_mib: int
    peak_mib: int
    held_mib: int
    answers: int
    killed: int


def measure(case: Case, work: Path) -> Measured:
    """Serve the case from ``work`` within its declared memory. Raises ``testing.models.UnreachableError``."""
    folder = model_folder(case, work)
    _forget(folder)
    run = _in_llama_server if case.engine == "llama" else _in_triton
    with memory_group(case.use.host) as group:
        with _watched(group) as held, run(case, folder, work, group) as address:
            answers = sum(answered(address, case))
        return Measured(case.use.host, group.peak_mib, held[0], answers, group.killed)


@contextlib.contextmanager
def _watched(group: MemoryGroup) -> Iterator[list[int]]:
    """Give the most that the group's processes have held so far, in MiB."""
    held, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            held[0] = max(held[0], group.held_mib)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _in_triton(case: Case, folder: Path, work: Path, group: MemoryGroup) -> Iterator[str]:
    described = Repository(
        model_dir=folder, runtime=case.runtime, precision=case.precision, context_length=case.context,
        slots=case.slots, intra_threads=THREADS, max_batch_size=64,
    )  # fmt: skip
    generate(work / "repository", described)
    server = Triton(work / "repository", folder, work / "triton.log", group.wrapped)
    server.start()
    try:
        yield server.grpc
    finally:
        server.kill()


@contextlib.contextmanager
def _in_llama_server(case: Case, folder: Path, _: Path, group: MemoryGroup) -> Iterator[str]:
    settings = {"context": case.context, "slots": case.slots, "wrapped": group.wrapped}
    with running_llama(folder, **settings) as (address, process):  # type: ignore[arg-type]

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{address}/health", timeout=60).status_code == httpx.codes.OK
            return False

        until(ready, START_S)
        yield address


def _forget(folder: Path) -> None:
    """Drop the model's file pages, which otherwise count for the group of their first reader."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def model_folder(case: Case, work: Path) -> Path:
    """Return the folder to serve: fetched by the project's loader, or with random weights of that shape."""
    facts = models()[case.model]
    if case.model.startswith("mistral"):
        return random_mistral.make(work / "model", facts)
    if facts.format == "gguf":
        return fetch(case.model)
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
    ways = [_completed] * case.slots if case.engine == "llama" else [_streamed, *[_whole] * (case.slots - 1)]
    with ThreadPoolExecutor(case.slots) as pool:
        asked = [pool.submit(way, address, case, index) for index, way in enumerate(ways)]
        for each in asked:
            yield each.result(timeout=ANSWER_S) == NEW_TOKENS


def _prompt(case: Case, index: int) -> np.ndarray:
    """Return token ids that leave room for ``NEW_TOKENS``, [1, length]; no two indices share a prefix."""
    length = (case.prompt or case.context) - NEW_TOKENS
    vocabulary = models()[case.model].vocabulary
    words = np.random.default_rng(index).integers(300, vocabulary * 9 // 10, _PERIOD, np.uint32)
    return np.resize(words, (1, length))


def _inputs(case: Case, index: int) -> list[grpc.InferInput]:
    prompt = _prompt(case, index)
    tensors = {
        "input_ids": prompt,
        "input_lengths": np.array([prompt.shape[1:]], np.uint32),
        "request_output_len": np.array([[NEW_TOKENS]], np.uint32),
        "runtime_top_k": np.array([[1]], np.uint32),
        # No token ends the answer before its length.
        "end_id": np.array([[1]], np.uint32),
    }
    return inputs(tensors)


def _completed(address: str, case: Case, index: int) -> int:
    body = {"prompt": _prompt(case, index)[0].tolist(), "max_tokens": NEW_TOKENS, "ignore_eos": True}
    answer = httpx.post(f"{address}/v1/completions", json=body, timeout=ANSWER_S)
    return int(answer.raise_for_status().json()["usage"]["completion_tokens"])


def _whole(address: str, case: Case, index: int) -> int:
    client, given = grpc.InferenceServerClient(address), _inputs(case, index)
    answer = client.infer(UNARY, given, client_timeout=ANSWER_S)
    return int(answer.as_numpy("sequence_length")[0, 0]) - given[0].shape()[1]


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

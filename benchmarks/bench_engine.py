"""Tokens per second of Triton, alone and behind the gateway, against llama.cpp's own server.

All three have the same library, GGUF file, threads and context, and eight requests at once. They are loaded
side by side and take turns, in alternating order, so that other load meets all of them: what counts are the
ratios of a round. The table has their median, least and greatest.

Every client makes one greedy request per round and streams the answer. No two prompts begin with the same
token, so that no cache answers. Goal: with one client, gateway and Triton reach 0.97 of llama.cpp's server.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import tritonclient.grpc as grpc

from benchmarks.support import editor_servers
from benchmarks.support.editor_servers import Model, Server
from testing.triton_inputs import inputs

WORK = Path(__file__).parent / ".work" / "models"
ENTRY = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
GOAL = 0.97
PEER, TRITON, BOTH = "llama.cpp's server", "Triton", "gateway and Triton"
_CLIENTS = (1, 4, 8)
_CONTEXT = 1024
_PROMPT = "\nimport os\n\n\ndef count_lines(folder):\n"
_FIRST_IDS = 1000
_ANSWER_S = 600.0

Complete = Callable[[list[int], int], int]
"""Streams an answer of at most so many tokens to a prompt, as ids; returns how many there were."""
Speeds = dict[tuple[str, int], list[float]]


def over_http(server: Server) -> Complete:
    """Return the client of a server with OpenAI's API."""

    def complete(prompt: list[int], tokens: int) -> int:
        body = {
            "model": "bench", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        made = 0
        with client.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    usage = json.loads(line[len("data: ") :]).get("usage") or {}
                    made = max(made, usage.get("completion_tokens", 0))
        return made

    client = httpx.Client(base_url=server.url, headers=server.headers[0], timeout=_ANSWER_S, trust_env=False)
    return complete


def over_grpc(address: str) -> Complete:
    """Return the client of Triton's streaming model."""
    clients: queue.SimpleQueue[grpc.InferenceServerClient] = queue.SimpleQueue()
    for _ in range(max(_CLIENTS)):
        clients.put(grpc.InferenceServerClient(address))

    def complete(prompt: list[int], tokens: int) -> int:
        arrays = {
            "input_ids": np.array([prompt], np.uint32),
            "input_lengths": np.array([[len(prompt)]], np.uint32),
            "request_output_len": np.array([[tokens]], np.uint32),
            "runtime_top_k": np.array([[1]], np.uint32),
            "is_return_log_probs": np.array([[False]]),
        }
        client = clients.get()
        try:
            return _streamed(client, arrays)
        finally:
            clients.put(client)

    return complete


def _streamed(client: grpc.InferenceServerClient, arrays: dict[str, np.ndarray]) -> int:
    events: queue.SimpleQueue[tuple[grpc.InferResult, Exception | None]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: events.put((result, error)))
    wanted = [grpc.InferRequestedOutput(name) for name in ("output_ids", "row_index", "row_final")]
    client.async_stream_infer("fastertransformer_stream", inputs(arrays), outputs=wanted)
    made = 0
    while True:
        result, error = events.get(timeout=_ANSWER_S)
        if error is not None:
            raise error
        made += result.as_numpy("output_ids").size
        if result.as_numpy("row_final").item():
            client.stop_stream()
            return made


class Rounds:
    """The speeds of all rounds so far, in tokens per second."""

    def __init__(self, contenders: dict[str, Complete], tokenise: Callable[[str], list[int]]) -> None:
        self.speeds: Speeds = {}
        self._contenders, self._prompt = contenders, tokenise(_PROMPT)
        self._first = count(_FIRST_IDS)

    def run(self, number: int, clients: Sequence[int], tokens: int) -> None:
        """Let every contender answer each number of clients once; even and odd rounds differ in order."""
        names = list(self._contenders)
        for many in clients:
            for name in names if number % 2 == 0 else names[::-1]:
                self.speeds.setdefault((name, many), []).append(self._speed(name, many, tokens))

    def _speed(self, name: str, many: int, tokens: int) -> float:
        complete = self._contenders[name]
        prompts = [[next(self._first), *self._prompt] for _ in range(many)]
        begin = time.perf_counter()
        with ThreadPoolExecutor(many) as pool:
            made = sum(pool.map(lambda prompt: complete(prompt, tokens), prompts))
        return made / (time.perf_counter() - begin)

    def ratios(self, name: str, many: int) -> list[float]:
        """Return the contender's share of llama.cpp's server, of each round."""
        pairs = zip(self.speeds[name, many], self.speeds[PEER, many], strict=True)
        return [mine / peer for mine, peer in pairs]


@contextlib.contextmanager
def contenders(file: Path, fim: str, threads: int) -> Iterator[Rounds]:
    """Start all servers on the file."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assist-bench-")))
        (folder / "model.gguf").symlink_to(file.resolve())
        most = max(_CLIENTS)
        model = Model(folder, fim, _CONTEXT, most, threads, 1)
        peer = stack.enter_context(editor_servers.llama_server(model))
        mine = stack.enter_context(editor_servers.ours(model))

        def tokenise(text: str) -> list[int]:
            answer = httpx.post(f"{peer.url}/tokenize", json={"content": text}, timeout=60, trust_env=False)
            tokens: list[int] = answer.raise_for_status().json()["tokens"]
            return tokens

        clients = {PEER: over_http(peer), TRITON: over_grpc(mine.grpc), BOTH: over_http(mine)}
        yield Rounds(clients, tokenise)


def show(rounds: Rounds, clients: Sequence[int]) -> None:
    """Print the table: tokens per second, and the ratio to llama.cpp's server."""
    print(f"{'':20}{'clients':>8}{'tokens/s':>10}{'ratio':>8}{'least':>8}{'most':>8}")
    for many in clients:
        for name in (PEER, TRITON, BOTH):
            ratios = rounds.ratios(name, many)
            print(
                f"{name:20}{many:>8}{statistics.median(rounds.speeds[name, many]):>10.1f}"
                f"{statistics.median(ratios):>8.2f}{min(ratios):>8.2f}{max(ratios):>8.2f}"
            )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entry", default=ENTRY, help=f"GGUF model of the catalogue (default {ENTRY})")
    parser.add_argument("--model", type=Path, help="its file, where it is here already")
    most = max(_CLIENTS)
    parser.add_argument("--clients", type=int, nargs="+", choices=range(1, most + 1), default=_CLIENTS)
    parser.add_argument("--rounds", type=int, default=3, help="of each contender, after one to warm up")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer, at most")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="threads of each contender")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if the goal is met, 1 if not, 2 for a model that cannot be used."""
    options = _options(arguments)
    chosen = editor_servers.chosen(options.entry, options.model, WORK)
    if chosen is None:
        return 2
    file, fim = chosen
    # End in order at SIGTERM: the servers have their own process groups and would keep running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contenders(file, fim, options.threads) as rounds:
        rounds.run(0, (1,), options.tokens)
        rounds.speeds.clear()
        for number in range(options.rounds):
            rounds.run(number, options.clients, options.tokens)
    return _report(rounds, file, options)


def _report(rounds: Rounds, file: Path, options: argparse.Namespace) -> int:
    load = os.getloadavg()[0]
    if options.json:
        found = [
            {"server": name, "clients": many, "tokens_per_s": speeds, "ratios": rounds.ratios(name, many)}
            for (name, many), speeds in rounds.speeds.items()
        ]
        print(json.dumps({"model": file.name, "threads": options.threads, "results": found, "load": load}))
    else:
        print(f"{file.name}, {options.threads} threads each, {options.rounds} rounds")
        show(rounds, options.clients)
        print(f"load average: {load:.1f} on {os.cpu_count()} processors")
    if 1 not in options.clients:
        return 0
    return 0 if statistics.median(rounds.ratios(BOTH, 1)) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())

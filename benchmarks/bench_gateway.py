"""The gateway against FauxPilot's proxy design, and against no gateway at all.

Part 1: requests per second over the same engine at 1, 8 and 64 clients. The engine computes nothing and
responds after 20 ms, like a model on a GPU that serves many requests at once, which a proxy must not delay.
With 0 ms, in a row of its own, both designs only show their own CPU time: concurrency gains nothing, and the
gateway, which does more (admission, metrics, logs, limits), shows the cost of that.

Part 2: the latency that the gateway adds to a direct tritonclient call, one request at a time, in medians,
over that engine at 0 ms and over the real Triton. Both sides send the same prompt ids, greedy, and the same
sixteen tensors. The direct call has its tensors ready; the gateway parses, tokenises and writes JSON. Rounds
of both alternate, so that other work on the machine affects both. The HTTP client's own cost, measured with a
server that responds at once, is printed, but not subtracted. All rows depend on the machine's other work, so
the load average is printed too.

Part 3: the 99th percentile of a well-behaved client, alone and next to a noisy neighbour with sixteen
connections, each with its own key, over an engine of 20 ms with four slots (goal: at most 1.2 times).
"""

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tokenizers import Tokenizer
from tritonclient.grpc import InferenceServerClient

from benchmarks.support import load as generator
from benchmarks.support import stage
from benchmarks.support.blocking_proxy import MODEL, inputs
from gateway.auth.keys import create_key

CLIENTS = (1, 8, 64)
GOAL_RATIO, GOAL_ADDED_MS, GOAL_NEIGHBOUR = 10.0, 1.5, 1.2
PROMPT, MAX_TOKENS = "def fibonacci(n):\n    ", 8


def throughput(latency_ms: float, seconds: float, folder: Path) -> float:
    """Print one engine's rows and return the ratio at the most clients."""
    ratio = 0.0
    with stage.instant_engine(latency_ms) as engine:
        with stage.gateway(engine, folder) as port:
            stage.load(port, 8, 1)
            ours = [stage.load(port, clients, seconds) for clients in CLIENTS]
        with stage.blocking_proxy(engine) as port:
            stage.load(port, 8, 1)
            theirs = [stage.load(port, clients, seconds) for clients in CLIENTS]
    for clients, gateway, proxy in zip(CLIENTS, ours, theirs, strict=True):
        ratio = gateway["rps"] / proxy["rps"]
        before = f"{latency_ms:7g} {clients:8d} {proxy['rps']:11.0f} {proxy['p50_ms']:9.1f}"
        print(f"{before} {gateway['rps']:13.0f} {gateway['p50_ms']:9.1f} {ratio:7.1f}x")
    return ratio


def direct_call(engine: str) -> Callable[[], object]:
    """Return a call to the engine without a gateway, with prepared tensors."""
    client = InferenceServerClient(engine)
    tokenizer = Tokenizer.from_file(str(stage.MODEL_DIR / "tokenizer.json"))
    tensors = inputs(tokenizer.encode(PROMPT).ids, MAX_TOKENS)
    return lambda: client.infer(MODEL, tensors)


def gateway_call(port: int) -> Callable[[], object]:
    """Return a call through the gateway on one open connection."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call() -> None:
        connection.sendall(generator.REQUEST)
        response = connection.recv(65536)
        head, _, body = response.partition(b"\r\n\r\n")
        missing = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(body)
        while missing > 0:
            missing -= len(connection.recv(missing))
        assert head.startswith(b"HTTP/1.1 200"), head

    return call


def median_ms(call: Callable[[], object], times: list[float], count: int) -> None:
    """Append ``count`` timings in ms."""
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)


def added_latency(name: str, engine: str, folder: Path, rounds: int) -> float:
    """Print and return the difference of the medians in ms."""
    with stage.gateway(engine, folder) as port:
        direct, through = direct_call(engine), gateway_call(port)
        direct_ms: list[float] = []
        through_ms: list[float] = []
        for call in (direct, through):
            median_ms(call, [], 50)
        for _ in range(rounds):
            median_ms(direct, direct_ms, 50)
            median_ms(through, through_ms, 50)
    without, with_it = statistics.median(direct_ms), statistics.median(through_ms)
    print(f"{name:12} {without:10.2f} {with_it:12.2f} {with_it - without:9.2f}")
    return with_it - without


def client_cost_ms() -> float:
    """Return the median time of the HTTP client with a server that responds at once."""
    with stage.null_server() as port:
        times: list[float] = []
        call = gateway_call(port)
        median_ms(call, [], 50)
        median_ms(call, times, 500)
    return statistics.median(times)


def neighbour(folder: Path, seconds: float) -> float:
    """Print and return the ratio of a client's p99 next to a noisy neighbour to its p99 alone."""
    keys = folder / "keys.json"
    (_, noisy), (_, quiet) = (create_key(keys, user) for user in ("noisy", "quiet"))
    chosen = {"auth": "keys", "keys_file": keys, "max_in_flight": 4, "max_queue": 16}
    with stage.instant_engine(20) as engine, stage.gateway(engine, folder, **chosen) as port:
        stage.load(port, 1, 1, key=quiet)
        alone = stage.load(port, 1, seconds, key=quiet)["p99_ms"]
        with stage.flood(port, 16, seconds + 2, key=noisy):
            beside = stage.load(port, 1, seconds, key=quiet)["p99_ms"]
    print(f"{'quiet client':13} {alone:9.1f} {beside:15.1f} {beside / alone:6.2f}x   (p99, ms)")
    return beside / alone


def main() -> None:
    """Run all parts and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="per row of part 1")
    parser.add_argument("--rounds", type=int, default=10, help="of 50 calls each, part 2")
    parser.add_argument("--without-triton", action="store_true", help="leave the real Triton out")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"{'engine':>7} {'':8} {'blocking proxy':>21} {'gateway':>23}")
        print(
            f"{'ms':>7} {'clients':>8} {'req/s':>11} {'p50 ms':>9} {'req/s':>13} {'p50 ms':>9} {'ratio':>8}"
        )
        throughput(0, options.seconds, folder)
        ratio = throughput(20, options.seconds, folder)
        print(f"goal at 64 clients and 20 ms: >= {GOAL_RATIO:g}x, reached {ratio:.1f}x\n")
        print(f"{'engine':12} {'direct ms':>10} {'gateway ms':>12} {'added ms':>9}   (medians)")
        with stage.instant_engine(0) as engine:
            added = [added_latency("instant", engine, folder, options.rounds)]
        if not options.without_triton:
            with stage.real_engine(folder) as engine:
                added.append(added_latency("real Triton", engine, folder, options.rounds))
        print(f"goal: <= {GOAL_ADDED_MS} ms added, worst {max(added):.2f} ms")
        print(f"the HTTP client's own share: {client_cost_ms():.2f} ms\n")
        print(f"{'':13} {'alone':>9} {'noisy neighbour':>15} {'ratio':>7}")
        print(f"goal: <= {GOAL_NEIGHBOUR:g}x, reached {neighbour(folder, options.seconds):.2f}x")
        print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()

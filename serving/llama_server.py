"""Starts llama.cpp's own server, with OpenAI's API, on a GGUF model (``engine.kind: openai``)."""

import argparse
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_BUSY = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)
_POLL_S = 0.1


def parameters(model: Path, options: argparse.Namespace) -> Any:  # noqa: ANN401 -- xllamacpp ships no types
    """Return llama.cpp's parameters. ``context_length`` is per slot; llama.cpp's ``n_ctx`` is the sum."""
    import xllamacpp

    from serving.backend.runtimes.llama_cpp import bound_memory

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.context_length * options.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = 0
    params.n_cache_reuse = options.cache_reuse
    bound_memory(params, options.prompt_cache_mib)
    params.endpoint_metrics = True
    # /slots would show the prompts of all users to each of them.
    params.endpoint_slots = False
    return params


def drain(metrics: Any, timeout_s: float) -> bool:  # noqa: ANN401 -- a function of xllamacpp, or a test's
    """Wait until ``metrics()`` reports no request; return whether that happened within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while any(int(count) for count in _BUSY.findall(str(metrics()))):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.llama_server", description=__doc__)
    parser.add_argument("model_dir", type=Path, help="folder with one GGUF file")
    parser.add_argument("--alias", required=True, help="name of the model in requests")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="TCP port to listen on")
    parser.add_argument(
        "--slots", type=int, default=4, help="requests that run at the same time; others wait"
    )
    parser.add_argument("--context-length", type=int, required=True, help="tokens per request")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="threads (default: all cores)")
    parser.add_argument(
        "--cache-reuse", type=int, default=0,
        help="tokens of a stretch that keeps its cache when it moves in a prompt, 0: none does (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--prompt-cache-mib", type=int, default=0,
        help="memory for prompts that have left their slot, beside what a stack declares (default: 0, none)",
    )  # fmt: skip
    parser.add_argument("--drain-s", type=float, default=30, help="seconds to wait for requests at the end")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, then wait for running requests. Return 0, or 1 if the model cannot be served."""
    options = _arguments(arguments)
    import xllamacpp  # both libraries take a second to load: check the arguments first

    from serving.backend.runtimes.llama_cpp import find_file

    try:
        model = find_file(options.model_dir)
    except ValueError as error:
        remedy = "use `model-loader fetch` with a model of the catalogue whose format is gguf"
        sys.stderr.write(f"{error}; {remedy}\n")
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = xllamacpp.Server(parameters(model, options))
    sys.stderr.write(f"serving {model.name} at {server.listening_address}\n")
    stop.wait()
    drain(server.handle_metrics, options.drain_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())

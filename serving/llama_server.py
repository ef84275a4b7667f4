"""llama.cpp's own server on a GGUF model of the store: OpenAI's API, for ``engine.kind: openai``."""

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
    """Return llama.cpp's settings; ``context_length`` is each slot's, llama.cpp's own is of all together."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.model_alias = {options.alias}
    settings.hostnames = [options.host]
    settings.port = options.port
    settings.n_parallel = options.slots
    settings.n_ctx = options.context_length * options.slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = options.threads
    settings.n_gpu_layers = 0
    settings.endpoint_metrics = True
    # It would show each user's prompt to the others.
    settings.endpoint_slots = False
    return settings


def drain(metrics: Any, patience_s: float) -> bool:  # noqa: ANN401 -- a function of xllamacpp, or a test's
    """Wait until ``metrics()`` tells of no request; return whether that came within ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while any(int(count) for count in _BUSY.findall(str(metrics()))):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.llama_server", description=__doc__)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--alias", required=True, help="the name that requests give the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--slots", type=int, default=4, help="requests at once; the others wait")
    parser.add_argument("--context-length", type=int, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--drain-s", type=float, default=30)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, then let what runs end; return 1 with the reason where no model can be served."""
    options = _arguments(arguments)
    import xllamacpp  # both libraries take a second to load, which a wrong argument need not wait for

    from serving.backend.runtimes.llama_cpp import find_file

    try:
        model = find_file(options.model_dir)
    except ValueError as error:
        remedy = "model-loader fetch a model of the catalogue whose format is gguf"
        sys.stderr.write(f"{error}; {remedy}\n")
        return 1
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    server = xllamacpp.Server(parameters(model, options))
    sys.stderr.write(f"{model.name} is served at {server.listening_address}\n")
    told.wait()
    drain(server.handle_metrics, options.drain_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The gateway as it runs: uvicorn on a free loopback port, in a thread of the test process."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.app import create_app
from gateway.http.server import DrainingServer, server
from gateway.settings import Settings

START_S = 120.0


class RunningGateway:
    """A started gateway; ``url`` has no trailing slash."""

    def __init__(self, running: DrainingServer, thread: threading.Thread) -> None:
        self._server, self._thread = running, thread
        port = running.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """End it as a signal would, and wait."""
        self._server.should_exit = True
        self._thread.join(START_S)


@contextlib.contextmanager
def gateway(model_dir: Path, grpc: str, **changes: Any) -> Iterator[RunningGateway]:
    """Run a gateway in front of a Triton at ``grpc``; no metrics port, no authentication unless asked for."""
    defaults: dict[str, Any] = {
        "auth": "none",
        "metrics_port": None,
        "model_dir": model_dir,
        "engine_url": grpc,
        "grace_s": 1.0,
    }
    settings = Settings(**{**defaults, **changes})
    running = server(create_app(settings), settings, host="127.0.0.1", port=0)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not running.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("The gateway did not start.")
        time.sleep(0.01)
    running_gateway = RunningGateway(running, thread)
    try:
        yield running_gateway
    finally:
        running_gateway.stop()

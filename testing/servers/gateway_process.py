"""The real gateway: ``python -m gateway`` as a process of its own, on free loopback ports."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from testing.ports import free_ports
from testing.servers.triton import ROOT
from testing.until import until

_START_S = 120.0
MODEL_DIR = ROOT / "models" / "tiny-codegen"
COMPLETIONS = "/v1/completions"
# One client for all: each new one loads the certificate store. No kept connections: servers are killed here.
_CLIENT = httpx.Client(
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=0), trust_env=False
)


class Gateway:
    """A gateway in front of the engine at ``grpc`` (host:port); keyword settings are ``ASSIST_*`` variables."""

    def __init__(self, grpc: str, log: Path, prefix: tuple[str, ...] = (), **settings: object) -> None:
        self.port, self.metrics_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._prefix = prefix
        defaults = {
            "host": "127.0.0.1", "port": self.port, "metrics_port": self.metrics_port, "auth": "none",
            "engine_url": f"grpc://{grpc}", "model_dir": MODEL_DIR, "model": "tiny-codegen",
        }  # fmt: skip
        chosen = {f"ASSIST_{name.upper()}": str(value) for name, value in {**defaults, **settings}.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        self.environment = {**kept, **chosen}
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: list[socket.socket] = []

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start(self, wait_for: str = "/health") -> None:
        """Start and wait until ``wait_for`` answers 200."""
        argv = [*self._prefix, sys.executable, "-m", "gateway"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, env=self.environment, cwd=ROOT, stdout=log, stderr=log)
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if _CLIENT.get(self.url + wait_for, timeout=10).status_code == 200:
                    return
            time.sleep(0.05)
        self.kill()
        pytest.fail(f"the gateway did not start:\n{self.log.read_text()[-4000:]}")

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Return the exit status; fail when the process is still there after ``timeout_s``."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it at once, and every raw connection."""
        for connection in self._connections:
            connection.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def complete(self, prompt: str = "def f(x):", **fields: Any) -> httpx.Response:
        """Ask for a completion and wait for the answer."""
        headers = fields.pop("headers", {})
        body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, **fields}
        return _CLIENT.post(self.url + COMPLETIONS, json=body, headers=headers, timeout=120)

    def status(self, path: str) -> int:
        return _CLIENT.get(self.url + path, timeout=60).status_code

    def metric(self, sample: str) -> float:
        """Return one sample's value, 0 when it does not exist yet."""
        for line in _CLIENT.get(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60
        ).text.splitlines():
            if line.startswith(sample + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def until_ready(self, expected: int = 200) -> None:
        """Wait until ``/ready`` answers ``expected``."""
        until(lambda: self.status("/ready") == expected)

    def connect(self) -> socket.socket:
        """Return a raw connection, for clients that don't keep to the rules; it ends with the gateway."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self._connections.append(connection)
        return connection

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far; every line must be JSON."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]


def request_bytes(body: bytes, path: str = COMPLETIONS, length: int | None = None, extra: str = "") -> bytes:
    """Return a POST as bytes; ``length`` may lie about the body."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
    return f"{head}{extra}\r\n".encode() + body


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes; a reset counts as a close."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


@contextlib.contextmanager
def running_gateway(grpc: str, folder: Path, wait_for: str = "/health", **settings: Any) -> Iterator[Gateway]:
    """Run a gateway for as long as the block lasts; its log is in ``folder``."""
    gateway = Gateway(grpc, folder / "gateway.log", **settings)
    gateway.start(wait_for)
    try:
        yield gateway
    finally:
        gateway.kill()

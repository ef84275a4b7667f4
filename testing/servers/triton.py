"""A real tritonserver with tiny-codegen on free loopback ports, for any test that asks for the fixture ``triton``."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testing import instruction_sets, needs
from testing.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "models" / "tiny-codegen"
# A model of 4 GiB is read, and its weights are arranged anew for the processor.
START_S = 600.0


class Triton:
    """One server that can be killed and started again on the same ports."""

    def __init__(
        self, repository: Path, model_dir: Path, log: Path, wrapped: Callable[[list[str]], list[str]] = list
    ) -> None:
        """Describe the server; ``wrapped`` changes its argv, as a control group does."""
        self.repository = repository
        self.model_dir = model_dir
        self.tokenizer_path = model_dir / "tokenizer.json"
        self.log = log
        self._wrapped = wrapped
        self._ports = free_ports(3)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in self._ports)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        from serving import tritonserver

        python = Path(sys.executable)
        tritonserver.prepare(python)
        tritonserver.sweep(self._ports[1])
        http_port, grpc_port, metrics_port = self._ports
        argv, environment = tritonserver.command(
            self.repository, host="127.0.0.1", http_port=http_port, grpc_port=grpc_port,
            metrics_port=metrics_port, gpu=False, python=python,
        )  # fmt: skip
        with self.log.open("ab") as log:
            environment |= instruction_sets.in_force()
            self._process = subprocess.Popen(
                self._wrapped(argv),
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.repository,
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> int:
        """End the server in its own way; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=120)
        finally:
            self._clean()

    def kill(self) -> None:
        """End the server and its backend processes at once, as the kernel would."""
        assert self._process is not None
        self._clean()
        self._process.wait(timeout=120)

    def restart(self) -> None:
        """Kill the server if it runs, then start it."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.start()

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.http, timeout=10)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"tritonserver did not become ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _clean(self) -> None:
        from serving import tritonserver

        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        tritonserver.sweep(self._ports[1])


def require_triton() -> None:
    """Skip the calling test, with the remedy, where the server or its runtime is not installed."""
    from serving import tritonserver

    needs.package("ctranslate2")
    try:
        tritonserver.prepare(Path(sys.executable))
    except tritonserver.TritonError as error:
        needs.skip(str(error), needs.TOOLS)


@pytest.fixture(scope="session")
def tiny_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert tiny-codegen for CTranslate2 once per session."""
    needs.package("ctranslate2")
    from serving.convert import convert

    target = tmp_path_factory.mktemp("tiny-codegen-ctranslate2-int8")
    convert(TINY, target, "ctranslate2", "int8")
    return target


@contextlib.contextmanager
def running_triton(work: Path, model: Path, **described: Any) -> Iterator[Triton]:
    """Run a server in ``work`` on a model repository of ``model``, ``described`` as by ``Repository``."""
    require_triton()
    from serving.model_repository import Repository, generate

    generate(work / "repository", Repository(model_dir=model, **described))
    server = Triton(work / "repository", model, work / "triton.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def triton(tiny_int8: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Run a server with the streaming model and its unary front; a test that kills it must start it again."""
    work = tmp_path_factory.mktemp("triton")
    with running_triton(
        work, tiny_int8, runtime="ctranslate2", precision="int8", context_length=2048
    ) as server:
        yield server

"""The processes of a benchmark: engine, gateway, baseline and load; each ends with its block."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from testing.ports import free_ports
from testing.servers.gateway_process import MODEL_DIR, Gateway
from testing.servers.triton import ROOT, Triton

PYTHON = sys.executable


@contextmanager
def process(*argv: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program from the repository's root for as long as the block lasts."""
    running = subprocess.Popen(argv, cwd=ROOT, text=True, **options)  # type: ignore[call-overload]
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


@contextmanager
def instant_engine(latency_ms: float) -> Iterator[str]:
    """Run a Triton that computes nothing and responds after ``latency_ms``; yield host:port."""
    argv = (PYTHON, "-m", "testing.doubles.fake_triton", "--latency-ms", str(latency_ms))
    with process(*argv, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        yield f"127.0.0.1:{running.stdout.readline().split()[1]}"


@contextmanager
def real_engine(folder: Path) -> Iterator[str]:
    """Run the real Triton with tiny-codegen on CTranslate2; yield host:port."""
    from serving.convert import convert
    from serving.model_repository import Repository, generate

    model, repository = folder / "model", folder / "repository"
    model.mkdir()
    convert(MODEL_DIR, model, "ctranslate2", "int8")
    generate(
        repository, Repository(model_dir=model, runtime="ctranslate2", precision="int8", context_length=2048)
    )
    server = Triton(repository, model, folder / "triton.log")
    server.start()
    try:
        yield server.grpc
    finally:
        server.kill()


@contextmanager
def gateway(engine: str, folder: Path, **settings: object) -> Iterator[int]:
    """Run the gateway in front of an engine; yield its port."""
    chosen: dict[str, object] = {"max_in_flight": 64, **settings}
    running = Gateway(engine, folder / "gateway.log", (), **chosen)
    running.start("/ready")
    try:
        yield running.port
    finally:
        running.kill()


@contextmanager
def blocking_proxy(engine: str) -> Iterator[int]:
    """Run the baseline in front of an engine; yield its port."""
    (port,) = free_ports(1)
    argv = (
        PYTHON,
        "-m",
        "benchmarks.support.blocking_proxy",
        engine,
        str(MODEL_DIR / "tokenizer.json"),
        str(port),
    )
    with process(*argv):
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield port


@contextmanager
def null_server() -> Iterator[int]:
    """Run a server that responds to every request at once; yield its port."""
    with process(PYTHON, "-m", "benchmarks.support.null_server", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        yield int(running.stdout.readline())


@contextmanager
def flood(port: int, clients: int, seconds: float, key: str) -> Iterator[None]:
    """Load a server while the block runs, whatever the responses."""
    argv = (PYTHON, "-m", "benchmarks.support.load", str(port), str(clients), str(seconds), key)
    with process(*argv, stdout=subprocess.DEVNULL):
        time.sleep(1)
        yield


def load(port: int, clients: int, seconds: float, key: str = "") -> dict[str, float]:
    """Load a server from another process; fail when any response was an error."""
    argv = (PYTHON, "-m", "benchmarks.support.load", str(port), str(clients), str(seconds), key)
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    assert not result["errors"], f"{result['errors']} requests failed"
    return result

"""The contenders of the editor benchmark, on one GGUF file: gateway and Triton, and llama.cpp's server."""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.support.stage import PYTHON, process
from gateway.auth.keys import create_key
from serving.model_repository import Repository, generate
from stackfile.catalogue import models
from testing.ports import free_ports
from testing.servers.gateway_process import running_gateway
from testing.servers.triton import ROOT, Triton

_SAMPLE = re.compile(r"^llamacpp:(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)
_START_S = 180.0
_STILL_S = 2.5


@dataclass(frozen=True, slots=True)
class Model:
    """A GGUF file alone in its folder, and how both contenders run it; ``context`` is tokens per slot."""

    folder: Path
    fim: str
    context: int
    slots: int
    threads: int
    people: int


@dataclass(frozen=True, slots=True)
class Server:
    """A contender that runs: its address, the keys of its people, and llama.cpp's own counters.

    ``grpc`` is the address of the Triton behind the gateway; empty for llama.cpp's server.
    """

    name: str
    url: str
    headers: list[dict[str, str]]
    counters: Callable[[], dict[str, float]]
    pid: int
    grpc: str = ""

    def cpu_s(self) -> float:
        """Return the processor seconds of the server and its children."""
        root = psutil.Process(self.pid)
        times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
        return sum(each.user + each.system for each in times)


def fetched(entry: str, store: Path) -> Path:
    """Return the GGUF file of a catalogue entry, which the loader fetches at the first use.

    Raises ``CalledProcessError`` when it cannot be had; the loader has said why.
    """
    subprocess.run([PYTHON, "-m", "model_loader", "fetch", entry, f"--store={store}"], cwd=ROOT, check=True)
    return next((store / entry / "current").resolve().glob("*.gguf"))


def chosen(entry: str, file: Path | None, store: Path) -> tuple[Path, str] | None:
    """Return the GGUF file and the fill-in-the-middle template of a catalogue entry; None, having said why.

    ``file``: where it is here already; otherwise as ``fetched``.
    """
    facts = models().get(entry)
    if facts is None or facts.fim is None or (file and not file.is_file()):
        sys.stderr.write("--model must be a GGUF file, --entry a model with `fim` in catalogue/models.yaml\n")
        return None
    return file or fetched(entry, store), facts.fim.model_dump_json()


@contextlib.contextmanager
def ours(model: Model) -> Iterator[Server]:
    """Run Triton and the gateway; every person has a key."""
    with tempfile.TemporaryDirectory(prefix="assist-bench-") as work:
        folder = Path(work)
        described = Repository(
            model_dir=model.folder, runtime="llama_cpp", precision="gguf", context_length=model.context,
            intra_threads=model.threads, max_batch_size=model.slots, streams=model.slots,
        )  # fmt: skip
        generate(folder / "repository", described)
        triton = Triton(folder / "repository", model.folder, folder / "triton.log")
        triton.start()
        keys = [create_key(folder / "keys.json", f"person{number}")[1] for number in range(model.people)]
        settings = {
            "model_dir": model.folder, "model": "bench", "context_length": model.context, "auth": "keys",
            "fim_template": model.fim, "max_in_flight": model.slots, "keys_file": folder / "keys.json",
            "deadline_s": 600,
        }  # fmt: skip
        try:
            with running_gateway(triton.grpc, folder, "/ready", **settings) as gateway:
                headers = [{"authorization": f"Bearer {key}"} for key in keys]
                yield Server(
                    "gateway and Triton", gateway.url, headers,
                    lambda: _counters(f"http://{triton.metrics}/metrics"), triton.pid,
                    triton.grpc,
                )  # fmt: skip
        finally:
            triton.kill()


@contextlib.contextmanager
def llama_server(model: Model) -> Iterator[Server]:
    """Run llama.cpp's own server with its settings for editors."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = (
        PYTHON, "-m", "serving.llama_server", str(model.folder), "--alias=bench", f"--port={port}",
        f"--slots={model.slots}", f"--context-length={model.context}", f"--threads={model.threads}",
        "--cache-reuse=256", "--prompt-cache-mib=8192",
    )  # fmt: skip
    with process(*argv) as running:
        end = time.monotonic() + _START_S
        while not _healthy(url):
            if running.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"llama.cpp's server did not start: {' '.join(argv)}")
            time.sleep(0.1)
        headers: list[dict[str, str]] = [{} for _ in range(model.people)]
        yield Server("llama.cpp's server", url, headers, lambda: _counters(f"{url}/metrics"), running.pid)


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    return False


def _counters(url: str) -> dict[str, float]:
    """Return llama.cpp's counters when nothing runs any more, so that they are complete.

    Triton shows values that are up to a second old, so the counters must have been still for longer.
    """
    end = time.monotonic() + _START_S
    before: dict[str, float] = {}
    while time.monotonic() < end:
        samples = {name: float(value) for name, value in _SAMPLE.findall(httpx.get(url, timeout=60).text)}
        if samples == before and samples and not samples["requests_processing"]:
            return samples
        before = samples
        time.sleep(_STILL_S)
    raise RuntimeError(f"{url} still reports requests at work, {_START_S:g} s after the last one")

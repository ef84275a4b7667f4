"""Start NVIDIA's tritonserver, from the nvidia-pytriton wheel or their container; command and environment."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serving.backend.withdrawals import PREFIX_VARIABLE

SHM_PREFIX = "assist_triton_"
# Where NVIDIA's container images have the server.
CONTAINER = Path("/opt/tritonserver")
_STUB = "triton_python_backend_stub"


class TritonError(Exception):
    """A server that cannot be started; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The server's files: inside one virtual environment, or NVIDIA's container around it."""

    root: Path
    python_version: str

    @property
    def server(self) -> Path:
        """The ``tritonserver`` executable."""
        return self.root / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """The directory of backends."""
        return self.root / "backends"

    @property
    def stub(self) -> Path:
        """The Python backend's helper executable for this version of Python."""
        if self.root == CONTAINER:
            return self.link
        return self.root / "python_backend_stubs" / self.python_version / _STUB

    @property
    def link(self) -> Path:
        """The place where the server looks for its helper; in NVIDIA's container it is there already."""
        return self.backends / "python" / _STUB


def installation(python: Path) -> Installation:
    """Find the server that belongs to the virtual environment of ``python``. Raises ``TritonError``."""
    question = (
        "import json, sys, sysconfig as s; print(json.dumps([s.get_path('purelib'), sys.version_info[:2]]))"
    )
    try:
        answer = subprocess.run(
            [python, "-c", question], capture_output=True, check=True, timeout=60, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TritonError(f"{python} does not run ({error}): make the serving environment again") from error
    purelib, (major, minor) = json.loads(answer.stdout)
    wheel = Path(purelib) / "pytriton" / "tritonserver"
    found = Installation(wheel if wheel.is_dir() else CONTAINER, f"{major}.{minor}")
    if not found.server.is_file():
        raise TritonError(
            f"no tritonserver beside {python}: install the wheel nvidia-pytriton==0.7.0 there (--no-deps)"
        )
    if not found.stub.is_file():
        raise TritonError(
            f"nvidia-pytriton has no backend stub for Python {found.python_version}: use Python 3.11 or 3.12"
        )
    return found


def prepare(python: Path) -> bool:
    """Put the Python backend's stub where the server looks for it; return whether anything changed.

    The wheel ships one stub per Python version elsewhere, and without the link every model is UNAVAILABLE
    ("triton_python_backend_stub is not found"). Raises ``TritonError``, also where libpython is missing.
    """
    found = installation(python)
    _check_libraries(found)
    link = found.link
    if link == found.stub:
        return False
    # Relative: the stub finds its libraries through $ORIGIN.
    target = os.path.relpath(found.stub, link.parent)
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)
    return True


def _check_libraries(found: Installation) -> None:
    listing = subprocess.run(
        ["ldd", found.stub], capture_output=True, check=False, timeout=60, text=True
    ).stdout
    missing = [line.split()[0] for line in listing.splitlines() if "not found" in line]
    if missing:
        raise TritonError(
            f"Triton's Python backend needs {', '.join(missing)}: "
            f"apt-get install libpython{found.python_version}"
        )


def command(
    repository: Path,
    *,
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    gpu: bool,
    python: Path,
    exit_timeout_s: int = 30,
) -> tuple[list[str], dict[str, str]]:
    """Return argv and environment of a tritonserver for ``repository``. Raises ``TritonError``.

    The environment's PATH starts with the virtual environment of ``python``: the backend's stub runs
    isolated, ignores PYTHONPATH and finds its packages by that alone.
    """
    found = installation(python)
    argv = [
        str(found.server),
        f"--model-repository={repository}",
        f"--backend-directory={found.backends}",
        # Its defaults are all interfaces.
        f"--http-address={host}",
        f"--grpc-address={host}",
        f"--metrics-address={host}",
        f"--http-port={http_port}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
        # Completing a configuration starts each backend process twice; ours is complete.
        "--disable-auto-complete-config",
        "--model-control-mode=none",
        "--exit-on-error=true",
        f"--exit-timeout-secs={exit_timeout_s}",
        "--log-format=ISO8601",
        # Cuts idle connections of clients that vanished without a word; a stream in use pings by itself.
        "--grpc-keepalive-time=30000",
        "--grpc-keepalive-timeout=10000",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(grpc_port)}",
    ]
    if not gpu:
        argv += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return argv, _environment(python, gpu=gpu) | {PREFIX_VARIABLE: shm_prefix(grpc_port)}


def _environment(python: Path, *, gpu: bool) -> dict[str, str]:
    binaries = python.parent
    environment = {
        "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        # OpenMP threads that spin while they wait take the other core from whoever has work.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if gpu:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        nvidia = binaries.parent / "lib" / version / "site-packages" / "nvidia"
        # CUDA is in wheels beside us, or in NVIDIA's image, which then says where.
        paths = [*map(str, sorted(nvidia.glob("*/lib"))), os.environ.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    return environment


def shm_prefix(grpc_port: int) -> str:
    """Return what the names of this server's shared memory regions start with."""
    return f"{SHM_PREFIX}{grpc_port}_"


def sweep(grpc_port: int) -> int:
    """Remove shared memory that a killed server on this port left behind; return how many regions.

    To be called only while no server runs on the port: Triton never reuses a region, so what is there is an
    orphan.
    """
    regions = list(Path("/dev/shm").glob(shm_prefix(grpc_port) + "*"))  # noqa: S108 -- where POSIX shared memory lives
    for region in regions:
        region.unlink(missing_ok=True)
    return len(regions)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the environment and become the server; return 1 with the reason if that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m serving.tritonserver", description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    options = vars(parser.parse_args(arguments))
    try:
        prepare(options["python"])
        argv, environment = command(**options)
    except TritonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sweep(options["grpc_port"])
    # The server takes this process's place, so that signals reach it.
    return os.execve(argv[0], argv, environment)  # noqa: S606 -- argv is ours, no shell is involved


if __name__ == "__main__":
    sys.exit(main())

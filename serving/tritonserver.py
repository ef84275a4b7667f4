"""Starts NVIDIA's tritonserver, from the nvidia-pytriton wheel or from NVIDIA's container."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serving.backend.withdrawals import PREFIX_VARIABLE

SHM_PREFIX = "assist_triton_"
# The server's folder in NVIDIA's container images.
CONTAINER = Path("/opt/tritonserver")
_STUB = "triton_python_backend_stub"


class TritonError(Exception):
    """The server cannot be started; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The server's files: inside a virtual environment, or in NVIDIA's container."""

    root: Path
    python_version: str

    @property
    def server(self) -> Path:
        """The ``tritonserver`` executable."""
        return self.root / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """The folder of the backends."""
        return self.root / "backends"

    @property
    def stub(self) -> Path:
        """The Python backend's helper executable for this version of Python."""
        if self.root == CONTAINER:
            return self.link
        return self.root / "python_backend_stubs" / self.python_version / _STUB

    @property
    def link(self) -> Path:
        """The path where the server expects the helper; NVIDIA's container has the helper there."""
        return self.backends / "python" / _STUB


def installation(python: Path) -> Installation:
    """Return the server for the virtual environment of ``python``. Raises ``TritonError``."""
    script = (
        "import json, sys, sysconfig as s; print(json.dumps([s.get_path('purelib'), sys.version_info[:2]]))"
    )
    try:
        output = subprocess.run(
            [python, "-c", script], capture_output=True, check=True, timeout=60, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TritonError(f"{python} does not run ({error}): recreate the serving environment") from error
    purelib, (major, minor) = json.loads(output.stdout)
    wheel = Path(purelib) / "pytriton" / "tritonserver"
    installed = Installation(wheel if wheel.is_dir() else CONTAINER, f"{major}.{minor}")
    if not installed.server.is_file():
        raise TritonError(
            f"{python} has no tritonserver: install the wheel nvidia-pytriton==0.7.0 there (--no-deps)"
        )
    if not installed.stub.is_file():
        raise TritonError(
            f"nvidia-pytriton has no stub for Python {installed.python_version}: use Python 3.11 or 3.12"
        )
    return installed


def prepare(python: Path) -> bool:
    """Link the Python backend's stub where the server expects it; return whether anything changed.

    The wheel has one stub per Python version in another folder, and without the link every model is
    UNAVAILABLE ("triton_python_backend_stub is not found"). Raises ``TritonError``, also if libpython is
    missing.
    """
    installed = installation(python)
    _check_libraries(installed)
    link = installed.link
    if link == installed.stub:
        return False
    # Relative: the stub finds its libraries through $ORIGIN.
    target = os.path.relpath(installed.stub, link.parent)
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)
    return True


def _check_libraries(installed: Installation) -> None:
    listing = subprocess.run(
        ["ldd", installed.stub], capture_output=True, check=False, timeout=60, text=True
    ).stdout
    missing = [line.split()[0] for line in listing.splitlines() if "not found" in line]
    if missing:
        raise TritonError(
            f"Triton's Python backend needs {', '.join(missing)}: "
            f"apt-get install libpython{installed.python_version}"
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

    The environment's PATH begins with the virtual environment of ``python``: the backend's stub runs
    isolated, ignores PYTHONPATH and finds its packages only through PATH.
    """
    installed = installation(python)
    argv = [
        str(installed.server),
        f"--model-repository={repository}",
        f"--backend-directory={installed.backends}",
        # The server's default is to listen on all interfaces.
        f"--http-address={host}",
        f"--grpc-address={host}",
        f"--metrics-address={host}",
        f"--http-port={http_port}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
        # To complete a configuration, the server starts each backend process twice; these are complete.
        "--disable-auto-complete-config",
        "--model-control-mode=none",
        "--exit-on-error=true",
        f"--exit-timeout-secs={exit_timeout_s}",
        "--log-format=ISO8601",
        # Closes idle connections of clients that vanished without closing them.
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
        # OpenMP threads that spin while they wait take processor time from threads that have work.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if gpu:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        nvidia = binaries.parent / "lib" / version / "site-packages" / "nvidia"
        # CUDA is in wheels of this environment, or in NVIDIA's image, which sets the variable.
        paths = [*map(str, sorted(nvidia.glob("*/lib"))), os.environ.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    return environment


def shm_prefix(grpc_port: int) -> str:
    """Return the prefix of the names of this server's shared memory regions."""
    return f"{SHM_PREFIX}{grpc_port}_"


def sweep(grpc_port: int) -> int:
    """Remove shared memory that a killed server on this port left behind; return the number of regions.

    Call it only while no server runs on the port: Triton never reuses a region, so every region is an orphan.
    """
    regions = list(Path("/dev/shm").glob(shm_prefix(grpc_port) + "*"))  # noqa: S108 -- where POSIX shared memory is
    for region in regions:
        region.unlink(missing_ok=True)
    return len(regions)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the environment and replace this process by the server; return 1 if that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m serving.tritonserver", description=__doc__)
    parser.add_argument("repository", type=Path, help="folder of the model repository")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--gpu", action="store_true", help="use the GPUs")
    parser.add_argument(
        "--exit-timeout-s", type=int, default=30, help="seconds for running requests at the end (default: 30)"
    )
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter of the serving environment"
    )
    options = vars(parser.parse_args(arguments))
    try:
        prepare(options["python"])
        argv, environment = command(**options)
    except TritonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sweep(options["grpc_port"])
    # The server replaces this process, so that it receives the signals.
    return os.execve(argv[0], argv, environment)  # noqa: S606 -- argv is built above, and no shell is involved


if __name__ == "__main__":
    sys.exit(main())

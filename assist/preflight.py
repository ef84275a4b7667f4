"""The checks before a start: every reason why it would fail, all at once, each with its remedy."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from assist import memory_check, processes
from assist.bundle.packages import libpython_package
from assist.bundle.paths import BundlePaths
from assist.deployment import Deployment
from assist.findings import Finding, ok, problem
from assist.package_index import unreachable
from assist.versions import numbers
from gateway.auth.keys import KeyFileError, list_keys

_GIB = 2**30
_ENVIRONMENTS_GIB = 1.5  # measured: 0.9 for the three environments, and what uv unpacks on the way
_TORCH_GIB = 4.5  # measured: 3.9 for the environment with torch
_SOCKET_PATH_MAX = 107 - len(".1234567")  # sun_path, and the suffix that supervisor adds while it binds

# Where a stack file sets the port of each use but the gateway's own (``Deployment.ports``).
_PORT_KEYS = {
    "gateway metrics": "gateway: {metrics_port: %d}",
    "Triton HTTP": "triton: {http_port: %d}",
    "Triton gRPC": "triton: {grpc_port: %d}",
    "Triton metrics": "triton: {metrics_port: %d}",
    "worker metrics": "jobs: {metrics_port: %d}",
}


def run(deployment: Deployment, *, allow_unpinned: bool = False) -> list[Finding]:
    """Make every check, writing nothing; the network is used only when a package must be installed."""
    checks: list[Callable[[Deployment], Finding]] = [
        _python, _platform, _folder, _socket_path, _disk, _memory, _shared_memory, _libpython, _network,
        _queue, _licence, _keys,
    ]  # fmt: skip
    checks += [] if allow_unpinned else [_pinned]
    return [check(deployment) for check in checks] + _ports(deployment)


def installed(deployment: Deployment) -> bool:
    """Return whether every virtual environment exists; uv compares their content."""
    return all(os.access(deployment.layout.python(name), os.X_OK) for name in deployment.locks)


def _python(_: Deployment) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return ok("python", f"Python {version}")
    remedy = "sudo apt-get install python3, then: make clean && make up"
    return problem(
        "python", f"Python {version}; Triton's backend and numpy 1.26 run on 3.11 and 3.12", remedy
    )


def _platform(deployment: Deployment) -> Finding:
    machine, (libc, version) = platform.machine(), platform.libc_ver()
    if not deployment.needs_triton or (
        machine == "x86_64" and libc == "glibc" and numbers(version) >= (2, 35)
    ):
        return ok("platform", f"{platform.system()} {machine}, {libc} {version}")
    cause = f"{machine}, {libc or 'no glibc'} {version}: tritonserver's wheel needs x86_64 and glibc 2.35"
    return problem(
        "platform",
        cause,
        "Use Debian 12, Ubuntu 22.04 or newer on x86_64, or engine.kind: openai in the stack",
    )


def _folder(deployment: Deployment) -> Finding:
    home = _existing(deployment.layout.home)
    if os.access(home, os.W_OK | os.X_OK):
        return ok("folder", f"{home} is writable")
    return problem("folder", f"this user can't write to {home}", "Clone the project to a folder of your own")


def _socket_path(deployment: Deployment) -> Finding:
    path = str(deployment.layout.socket)
    if len(path.encode()) <= _SOCKET_PATH_MAX:
        return ok("socket", f"{path} is short enough for a Unix socket")
    cause = f"{path} is longer than the {_SOCKET_PATH_MAX} bytes that a Unix socket's path may have"
    return problem("socket", cause, "Clone the project to a shorter path")


def _queue(deployment: Deployment) -> Finding:
    enabled, variable = deployment.stack.jobs.enabled, "ASSIST_JOBS_REDIS_URL"
    if not enabled or variable in deployment.gateway_environment():
        return ok("queue", f"{variable} is set" if enabled else "jobs are off")
    remedy = f"{variable}=redis://127.0.0.1:6379/0 make up, or remove jobs.enabled from the stack"
    return problem("queue", f"jobs.enabled needs a Redis, but {variable} is not set", remedy)


def _keys(deployment: Deployment) -> Finding:
    """Refuse a damaged key file here: later, where keys must not be printed, nobody would learn of it."""
    try:
        count = len(list_keys(deployment.layout.keys)) if deployment.stack.auth.mode == "keys" else 0
    except KeyFileError as error:
        return problem("keys", str(error), ".run/bin/assist keys repair")
    return ok("keys", f"{count} keys")


def _licence(deployment: Deployment) -> Finding:
    """Report the licence; the reader of the stack has refused one that is not accepted."""
    return ok("licence", f"{deployment.stack.model.id}: {deployment.stack.model.terms}")


def _pinned(deployment: Deployment) -> Finding:
    model = deployment.stack.model
    if (
        all(file.sha256 for file in model.files)
        or deployment.model_link.exists()
        or not deployment.needs_triton
    ):
        return ok("checksums", f"{model.id}: the catalogue has every checksum, or the model is in the store")
    remedy = f"assist models pin {model.id}, or, to download without checksums: make up ALLOW_UNPINNED=1"
    return problem("checksums", f"{model.id} has files without a recorded checksum", remedy)


def _disk(deployment: Deployment) -> Finding:
    model = max(deployment.stack.model.memory_gib.values())  # the download; its conversion is never larger
    fetched = deployment.model_link.exists()
    environments = _ENVIRONMENTS_GIB + (_TORCH_GIB if "torch" in deployment.locks else 0)
    needed = (0 if installed(deployment) else environments) + (0 if fetched else 2 * model) + 0.1
    free = shutil.disk_usage(_existing(deployment.layout.home)).free / _GIB
    if free >= needed:
        return ok("disk", f"{free:.1f} GiB free, {needed:.1f} needed")
    cause = f"{free:.1f} GiB free for {deployment.layout.home}, {needed:.1f} needed"
    return problem("disk", cause, "Free some space, or clone the project to a larger disk")


def _memory(deployment: Deployment) -> Finding:
    # The running service can stop first, where both do not fit.
    own = sum(_resident(process) for process in processes.own(deployment.layout)) // memory_check.MIB
    return memory_check.finding(deployment.stack, fetched=deployment.model_link.exists(), own_mib=own)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _shared_memory(deployment: Deployment) -> Finding:
    shm = Path("/dev/shm")  # noqa: S108  -- POSIX shared memory, through which Triton talks to its backend
    if not deployment.needs_triton or (
        shm.is_dir() and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2**26
    ):
        return ok("shared memory", f"{shm} has room")
    cause = f"{shm} is missing, not writable or has less than 64 MiB free; Triton and its backend need more"
    return problem("shared memory", cause, "Mount a tmpfs there; in a container: --shm-size=256m")


def _libpython(deployment: Deployment) -> Finding:
    package = libpython_package(sys.version_info)
    name = f"{package}.so.1.0"
    installed_ = (deployment.layout.home / "venvs/serving/libpython.found").exists()
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    if not deployment.needs_triton or installed_ or name in listing:
        return ok("libpython", f"{name} is installed, or not needed")
    if any(BundlePaths.of(deployment.layout).link.glob(f"debs/{package}_*.deb")):
        return ok("libpython", f"{name} will be taken from the bundle")
    # Without root the library can still be unpacked from Debian's package, if apt knows its address.
    available = (
        shutil.which("apt-get")
        and subprocess.run(
            ["apt-get", "download", "--print-uris", package], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    if available:
        return ok("libpython", f"{name} will be taken from Debian's package")
    return problem("libpython", f"Triton's backend needs {name}", f"sudo apt-get install {package}")


def _network(deployment: Deployment) -> Finding:
    paths = BundlePaths.of(deployment.layout)
    if paths.link.exists():
        return _bundle(deployment, paths)
    if installed(deployment):
        return ok("network", "not tested: there is nothing to install")
    if why := unreachable(deployment.layout):
        remedy = "Connect, set HTTPS_PROXY, or name a mirror (PIP_INDEX_URL) or wheels (PIP_FIND_LINKS)"
        return problem(
            "network", f"packages must be installed, but the index can't be reached: {why}", remedy
        )
    return ok("network", "the package index is reachable")


def _bundle(deployment: Deployment, paths: BundlePaths) -> Finding:
    if paths.covers([lock for locks in deployment.locks.values() for lock in locks]):
        return ok("network", "not tested: the installed bundle has every package")
    return problem(
        "network",
        f"the bundle in {paths.link} was built for another stack, or for another version of this project",
        f"Install a bundle built for this stack and clone, or remove {paths.link} to use the network",
    )


def _ports(deployment: Deployment) -> list[Finding]:
    own = {process.pid for process in processes.own(deployment.layout)}
    holders = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            holders[connection.laddr.port] = connection.pid
    findings, seen = [], dict[int, str]()
    for use, (host, port) in deployment.ports.items():
        if port in seen:
            cause = f"port {port} is set for both {seen[port]} and {use}"
            findings.append(problem(f"port {port}", cause, "Give each its own port in the stack file"))
        elif not (port in holders and holders[port] in own):
            findings.append(_port(use, host, port, holders.get(port)))
        seen[port] = use
    return findings


def _port(use: str, host: str, port: int, holder: int | None) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except PermissionError:
            return problem(
                f"port {port}",
                f"{use}: ports below 1024 need root",
                "Choose a port above 1023, as in make up PORT=5100",
            )
        except OSError as error:
            key = _PORT_KEYS.get(use)
            choice = f"in the stack file, such as {key % (port + 10)}" if key else "make up PORT=5100"
            remedy = f"Stop that process, or choose another port: {choice}"
            return problem(
                f"port {port}", f"{use} on {host}:{port}: {_who(holder) or error.strerror}", remedy
            )
    return ok(f"port {port}", f"{use}: {host}:{port} is free")


def _who(pid: int | None) -> str:
    try:
        return f"in use by {psutil.Process(pid).name()} (process {pid})" if pid else ""
    except psutil.Error:
        return f"in use by process {pid}"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)

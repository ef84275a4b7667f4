"""Look before anything is touched: every reason why a start would fail, all at once, each with its remedy."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from assist import processes
from assist.bundle.paths import BundlePaths
from assist.deployment import Deployment
from assist.findings import Finding, ok, problem
from assist.package_index import unreachable
from stackfile.checks import model_copies

_GIB = 2**30
_ENVIRONMENTS_GIB = 1.5  # measured: 0.9 for the three environments, and what uv unpacks on the way
_OVERHEAD_GIB = 0.7  # Triton, its backend process, the gateway, Ansible
_SOCKET_PATH_MAX = 107 - len(".1234567")  # sun_path, and the suffix that supervisor adds while it binds


def run(deployment: Deployment, *, allow_unpinned: bool = False) -> list[Finding]:
    """Make every check. Nothing is written; the network is asked only when something must be installed."""
    checks: list[Callable[[Deployment], Finding]] = [
        _python, _platform, _folder, _socket_path, _disk, _memory, _shared_memory, _libpython, _network,
        _queue,
    ]  # fmt: skip
    checks += [] if allow_unpinned else [_pinned]
    return [check(deployment) for check in checks] + _ports(deployment)


def installed(deployment: Deployment) -> bool:
    """Say whether every virtual environment is there already; their content is uv's to compare."""
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
        machine == "x86_64" and libc == "glibc" and _number(version) >= (2, 35)
    ):
        return ok("platform", f"{platform.system()} {machine}, {libc} {version}")
    cause = f"{machine}, {libc or 'no glibc'} {version}: tritonserver's wheel needs x86_64 and glibc 2.35"
    return problem(
        "platform",
        cause,
        "Use Debian 12, Ubuntu 22.04 or newer on x86_64, or engine.kind: openai in the stack",
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _folder(deployment: Deployment) -> Finding:
    home = _existing(deployment.layout.home)
    if os.access(home, os.W_OK | os.X_OK):
        return ok("folder", f"{home} can be written")
    return problem(
        "folder", f"{home} can't be written by this user", "Clone the project to a folder of your own"
    )


def _socket_path(deployment: Deployment) -> Finding:
    path = str(deployment.layout.socket)
    if len(path.encode()) <= _SOCKET_PATH_MAX:
        return ok("socket", f"{path} is short enough for a Unix socket")
    cause = f"{path} is longer than the {_SOCKET_PATH_MAX} bytes that a Unix socket's path may have"
    return problem("socket", cause, "Clone the project to a shorter path")


def _queue(deployment: Deployment) -> Finding:
    wanted, variable = deployment.service.jobs.enabled, "ASSIST_JOBS_REDIS_URL"
    if not wanted or variable in deployment.gateway_environment():
        return ok("queue", "its Redis is named" if wanted else "no jobs are asked for")
    remedy = f"{variable}=redis://127.0.0.1:6379/0 make up, or take jobs.enabled out of the stack"
    return problem("queue", f"jobs.enabled needs a Redis, and {variable} names none", remedy)


def _pinned(deployment: Deployment) -> Finding:
    model = deployment.service.model
    if (
        all(file.sha256 for file in model.files)
        or deployment.model_link.exists()
        or not deployment.needs_triton
    ):
        return ok("checksums", f"{model.id}: every file's checksum is known, or it is here already")
    remedy = f"assist models pin {model.id}, or, to take the source's word: make up ALLOW_UNPINNED=1"
    return problem("checksums", f"nobody has recorded the checksums of {model.id}'s files yet", remedy)


def _disk(deployment: Deployment) -> Finding:
    model = max(deployment.service.model.memory_gib.values())  # the download; its conversion is never larger
    fetched = deployment.model_link.exists()
    needed = (0 if installed(deployment) else _ENVIRONMENTS_GIB) + (0 if fetched else 2 * model) + 0.1
    free = shutil.disk_usage(_existing(deployment.layout.home)).free / _GIB
    if free >= needed:
        return ok("disk", f"{free:.1f} GiB free, {needed:.1f} needed")
    cause = f"{free:.1f} GiB free where {deployment.layout.home} goes, {needed:.1f} needed"
    return problem("disk", cause, "Free some space, or clone the project to a larger disk")


def _memory(deployment: Deployment) -> Finding:
    available = psutil.virtual_memory().available / _GIB
    needed = _OVERHEAD_GIB + _weights_gib(deployment)
    cause = f"{available:.1f} GiB of memory available"
    if processes.programs(deployment.layout) or available >= needed:
        return ok("memory", cause)
    return problem(
        "memory",
        f"{cause}, {needed:.1f} needed",
        "Stop other programs, or choose a smaller model or precision",
    )


def _weights_gib(deployment: Deployment) -> float:
    """Return what the model's copies take of this machine's memory."""
    service = deployment.service
    if service.accelerator.is_gpu or not deployment.needs_triton:
        return 0.0
    return service.model.memory_gib.get(service.precision, 0.0) * model_copies(service)


def _shared_memory(deployment: Deployment) -> Finding:
    shm = Path("/dev/shm")  # noqa: S108  -- where POSIX shared memory lives; Triton talks to its backend through it
    if not deployment.needs_triton or (
        shm.is_dir() and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2**26
    ):
        return ok("shared memory", f"{shm} has room")
    cause = (
        f"{shm} is missing, can't be written or has less than 64 MiB free: Triton talks to its backend there"
    )
    return problem("shared memory", cause, "Mount a tmpfs there; in a container: --shm-size=256m")


def _libpython(deployment: Deployment) -> Finding:
    package = libpython_package(sys.version_info)
    name = f"{package}.so.1.0"
    found = not deployment.needs_triton or (deployment.layout.home / "venvs/serving/libpython.found").exists()
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    if found or name in listing:
        return ok("libpython", f"{name} is here")
    if any(BundlePaths.of(deployment.layout).link.glob(f"debs/{package}_*.deb")):
        return ok("libpython", f"{name} will be taken from the bundle")
    # Without root the library can still be taken out of Debian's package, if apt knows where that is.
    known = (
        shutil.which("apt-get")
        and subprocess.run(
            ["apt-get", "download", "--print-uris", package], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    if known:
        return ok("libpython", f"{name} will be taken from Debian's package")
    return problem("libpython", f"Triton's backend needs {name}", f"sudo apt-get install {package}")


def libpython_package(version: tuple[Any, ...]) -> str:
    """Return the Debian package of the library that Triton's backend embeds; Debian's python3 lacks it."""
    return "libpython{}.{}".format(*version)


def _network(deployment: Deployment) -> Finding:
    place = BundlePaths.of(deployment.layout)
    if place.link.exists():
        return _bundle(deployment, place)
    if installed(deployment):
        return ok("network", "nothing to install, so not asked")
    if why := unreachable(deployment.layout):
        remedy = "Connect, set HTTPS_PROXY, or name a mirror (PIP_INDEX_URL) or wheels (PIP_FIND_LINKS)"
        return problem("network", f"packages must be installed and can't be had: {why}", remedy)
    return ok("network", "the package index answers")


def _bundle(deployment: Deployment, place: BundlePaths) -> Finding:
    if place.covers([lock for locks in deployment.locks.values() for lock in locks]):
        return ok("network", "not asked: the bundle in place has every package")
    return problem(
        "network",
        f"the bundle in {place.link} was built for another stack, or for another version of this project",
        f"Install one that was built for this stack and clone, or remove {place.link} to use the network",
    )


def _ports(deployment: Deployment) -> list[Finding]:
    mine = {process.pid for process in processes.own(deployment.layout)}
    holders = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            holders[connection.laddr.port] = connection.pid
    findings, seen = [], dict[int, str]()
    for use, (host, port) in deployment.ports.items():
        if port in seen:
            cause = f"port {port} is to be both {seen[port]} and {use}"
            findings.append(problem(f"port {port}", cause, "Give each its own port in the stack file"))
        elif not (port in holders and holders[port] in mine):
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
            choice = (
                "make up PORT=5100"
                if use == "gateway"
                else "in the stack file, such as triton: {http_port: 8010}"
            )
            remedy = f"Stop it, or choose another port: {choice}"
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

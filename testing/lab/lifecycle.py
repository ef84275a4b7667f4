"""A lab's life: made, brought back to the beginning, kept as a layer, and destroyed without a trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from testing.lab import host_root, image, inventory, machines, network, proxy
from testing.lab.processes import LabError, ProcessId, is_reached, locked, run
from testing.lab.record import Host, LabFolder, Record
from testing.lab.settings import GATEWAY, PACKAGES, PROXY_PORT, LabSettings

NETS = ("cache", "offline", "none")
_ROOT = Path(__file__).resolve().parents[2]
_PROXY_S = 60.0
_Result = TypeVar("_Result")


def up(lab: LabFolder, specs: list[str], net: str = "cache", packages: str = PACKAGES) -> Record:
    """Make the lab where there is none, add the hosts that are new, and boot those that are down.

    ``specs`` are as ``Host.parse`` reads them. ``net`` counts where the lab is made.
    """
    started = time.monotonic()
    with locked(lab.lock):
        wanted = [Host.parse(spec) for spec in specs]
        record = lab.find()
        if record is None or not lab.has_switch or not _has_proxy(record):
            _destroy(lab)  # what a killed run left
            record = _make(lab, net, packages)
        for host in wanted:
            if host.name not in record.hosts:
                record.add(host)
        down = [host for host in record.hosts.values() if not host.is_alive]
        for host in down:
            if not (lab.host(host.name) / "upper").is_dir():
                host_root.clone(lab, record, host)
        _boot(lab, record, down)
    say(f"{len(down)} host(s) up in {time.monotonic() - started:.1f} s")
    return record


def _make(lab: LabFolder, net: str, packages: str) -> Record:
    record = Record(net, lab.settings.suite, image.build(lab.settings, packages))
    lab.save(record)
    lab.root.chmod(0o700)
    network.create(lab)
    host_root.make_key(lab.key, lab.switch)
    record.proxy = _start_proxy(lab, offline=net == "offline") if net != "none" else None
    lab.save(record)
    return record


def _boot(lab: LabFolder, record: Record, hosts: list[Host]) -> None:
    _tell_names(lab, record)
    for host in hosts:
        machines.boot(lab, record, host)
        lab.save(record)
    for host, state in zip(hosts, _each(lambda host: machines.wait(lab, host), hosts), strict=True):
        say(f"{host.name} {host.ip} {state}")
    inventory.write(lab, record)


def _tell_names(lab: LabFolder, record: Record) -> None:
    """Let every host know every host, as there is no DNS in the lab."""
    hosts = record.hosts.values()
    text = f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{GATEWAY} lab-gw\n"
    text += "".join(f"{host.ip} {host.name}\n" for host in hosts)
    for host in hosts:
        if host.is_alive:
            machines.enter(host, "sh", "-c", "cat > /etc/hosts", stdin=text)
        else:
            (lab.host(host.name) / "upper/etc/hosts").write_text(text)


def _has_proxy(record: Record) -> bool:
    return record.net == "none" or (record.proxy is not None and record.proxy.is_alive)


def _start_proxy(lab: LabFolder, *, offline: bool) -> ProcessId:
    """Start the lab's proxy as a process of its own and wait until it listens."""
    argv = [sys.executable, "-m", "testing.lab", "--name", lab.name, "_proxy"]
    errors, ready = lab.root / "proxy.err", lab.root / "proxy.ready"
    environment = os.environ | lab.settings.variables() | {"PYTHONPATH": str(_ROOT)}
    with errors.open("ab") as log:
        process = subprocess.Popen(
            [*argv, *(["--offline"] if offline else [])], cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    if is_reached(lambda: ready.exists() or process.poll() is not None, _PROXY_S) and ready.exists():
        return ProcessId.of(process.pid)
    process.kill()
    raise LabError(f"the proxy doesn't listen: {errors.read_text()[-500:]}")


def run_proxy(lab: LabFolder, *, offline: bool) -> None:
    """Be the lab's proxy, until a signal ends it."""
    (lab.root / "proxy.pid").write_text(json.dumps(asdict(ProcessId.of(os.getpid()))))
    server = proxy.listen(
        lab.settings, (GATEWAY, PROXY_PORT), lab.switch, lab.root / "proxy.log", offline=offline
    )
    (lab.root / "proxy.ready").touch()
    server.serve_forever()


def reset(lab: LabFolder, names: list[str]) -> None:
    """Bring hosts (all, without a name) back to the image or their layer, and boot them again."""
    with locked(lab.lock):
        record = lab.load()
        hosts = record.chosen(names)
        _each(lambda host: machines.kill(lab, host), hosts)
        for host in hosts:
            host.process = None
            host_root.clone(lab, record, host)
        _end_connections(lab)
        _boot(lab, record, hosts)


def save_layer(lab: LabFolder, name: str, layer: str) -> None:
    """Stop a host and keep what was done to it as a layer, which it and others can start from.

    Raises LabError for a host that started from a layer itself.
    """
    if not layer.replace("-", "").replace("_", "").isalnum():
        raise LabError(f"{layer!r}: a layer's name has letters, digits, - and _")
    with locked(lab.lock):
        record = lab.load()
        (host,) = record.chosen([name])
        if host.layer:
            raise LabError(f"{name} started from layer {host.layer!r}: a layer on a layer isn't kept")
        machines.power_off(host)
        machines.kill(lab, host)
        upper, kept = lab.host(name) / "upper", lab.settings.layer(layer)
        shutil.rmtree(upper / "var/log/journal", ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        run("mv", upper, kept)
        host.layer, host.process = layer, None
        lab.save(record)


def destroy(lab: LabFolder) -> None:
    """Remove everything of a lab, and what a killed run left of one; harmless where there is nothing."""
    with locked(lab.lock):
        _destroy(lab)
        lab.lock.unlink(missing_ok=True)
    with suppress(OSError):
        lab.settings.state.rmdir()


def _destroy(lab: LabFolder) -> None:
    record = lab.find()
    hosts = dict(record.hosts) if record else {}
    _end_connections(lab)
    branch = machines.cgroup_of(lab)
    # Those too that a killed `up` had started and not yet written down.
    for group in branch.iterdir() if branch.is_dir() else ():
        if group.is_dir():
            hosts.setdefault(group.name, Host(group.name))
    _each(lambda host: machines.kill(lab, host), hosts.values())
    _stop_proxy(lab)
    network.remove(lab)
    for folder in (branch, branch.parent):
        with suppress(OSError):
            folder.rmdir()
    shutil.rmtree(lab.root, ignore_errors=True)
    mount = machines.own_cgroup_mount(lab)
    if mount.is_dir() and not labs(lab.settings):
        run("umount", mount, check=False)
        with suppress(OSError):
            mount.rmdir()


def _stop_proxy(lab: LabFolder) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):
        process = ProcessId(**json.loads((lab.root / "proxy.pid").read_text()))
        if process.is_alive:
            os.kill(process.pid, signal.SIGTERM)
            if not is_reached(lambda: not process.is_alive, _PROXY_S):
                raise LabError(f"the proxy, process {process.pid}, doesn't end")


def _end_connections(lab: LabFolder) -> None:
    """End the ssh processes that keep connections open for later ones (ControlPersist)."""
    for file in (*lab.root.glob("cm-*"), *lab.root.glob("cp/*")):
        run("ssh", "-F", "none", "-o", f"ControlPath={file}", "-O", "exit", "x", check=False)
        file.unlink(missing_ok=True)


def labs(settings: LabSettings) -> list[str]:
    """Return the names of the labs of one state folder that were made, whether their hosts run or not."""
    return sorted(file.parent.name for file in settings.state.glob("*/lab.json"))


def _each(function: Callable[[Host], _Result], hosts: Iterable[Host]) -> list[_Result]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(function, hosts))


def say(text: str) -> None:
    """Say on standard error how far a command is."""
    sys.stderr.write(f"lab: {text}\n")

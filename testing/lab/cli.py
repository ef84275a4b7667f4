"""The lab's command line: ``python -m testing.lab COMMAND``."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from testing.lab import image, inventory, lifecycle, machines, network
from testing.lab.processes import LabError, run
from testing.lab.record import Host, LabFolder
from testing.lab.settings import PACKAGES, LabSettings

_HOST = "HOST[:groups=a,b][:gpus=N][:layer=NAME]"
_ABOUT = "Throw-away Debian hosts, booted with systemd on a closed network of their own."


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status. Errors go to standard error."""
    given = _parser().parse_args(argv)
    try:
        if os.geteuid():
            raise LabError("hosts are booted by root alone: run it with sudo")
        given.act(LabFolder(given.name, LabSettings.from_environment()), given)
    except (LabError, subprocess.TimeoutExpired) as error:
        lifecycle.say(str(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m testing.lab", description=_ABOUT)
    name = os.environ.get("LAB_NAME", "main")
    parser.add_argument("--name", default=name, help="which lab (several can run at once)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[LabFolder, Any], None], text: str | None = None) -> Any:
        command = commands.add_parser(name, help=text) if text else commands.add_parser(name)
        command.set_defaults(act=act)
        return command

    command = add("build", _build, "make the image, or print where it is")
    command.add_argument("--force", action="store_true", help="make it anew")
    command.add_argument("--include", default=PACKAGES, help="its packages, comma separated")
    command = add("up", _up, "create and boot hosts")
    command.add_argument("hosts", nargs="+", metavar=_HOST)
    command.add_argument("--net", choices=lifecycle.NETS, default="cache")
    command.add_argument("--include", default=PACKAGES)
    add("list", _list, "the hosts and their states").add_argument("--json", action="store_true")
    command = add("inventory", _inventory, "an inventory for Ansible")
    command.add_argument("--format", choices=inventory.FORMATS, default="yaml")
    add("ssh-config", _ssh_config, "the path of ssh's settings")
    for each, act, text in (("ssh", _ssh, "over SSH"), ("exec", _exec, "straight into a host, as root")):
        command = add(each, act, text)
        command.add_argument("host")
        command.add_argument("args", nargs=argparse.REMAINDER)
    command = add("run", _run, "run a command here, in the lab's network namespace")
    command.add_argument("args", nargs=argparse.REMAINDER)
    command = add("reset", _reset, "back to the pristine image (or layer), booted again")
    command.add_argument("hosts", nargs="*")
    command = add("save", _save, "stop a host and keep its changes as a layer")
    command.add_argument("host")
    command.add_argument("layer")
    add("clean", _clean, "remove the cache: images, layers, packages")
    add("destroy", _destroy, "remove the lab").add_argument("--all", action="store_true")
    add("_proxy", _proxy).add_argument("--offline", action="store_true")
    return parser


def _print(text: object) -> None:
    sys.stdout.write(f"{text}\n")


def _build(lab: LabFolder, given: Any) -> None:
    _print(image.build(lab.settings, given.include, force=given.force))


def _up(lab: LabFolder, given: Any) -> None:
    lifecycle.up(lab, given.hosts, given.net, given.include)
    _print(lab.inventory)


def _list(lab: LabFolder, given: Any) -> None:
    rows = [_row(lab, host) for host in lab.load().hosts.values()]
    if given.json:
        _print(json.dumps(rows, indent=1))
        return
    for row in rows:
        _print(
            f"{row['name']:<12} {row['ip']:<12} {row['state']:<10} gpus={row['gpus']}"
            f" disk={row['disk_kib'] / 1024:.1f}MiB groups={','.join(row['groups'])}"
        )


def _row(lab: LabFolder, host: Host) -> dict[str, Any]:
    disk = run("du", "-sk", lab.host(host.name) / "upper").stdout.split()[0]
    return {
        "name": host.name, "ip": host.ip, "groups": host.groups, "gpus": host.gpus, "state": _state(host),
        "disk_kib": int(disk),
    }  # fmt: skip


def _state(host: Host) -> str:
    try:
        return (machines.state_of(host) or "?") if host.is_alive else "stopped"
    except LabError:  # it starts or ends in this moment
        return "?"


def _inventory(lab: LabFolder, given: Any) -> None:
    sys.stdout.write(inventory.text(lab, lab.load(), given.format))


def _ssh_config(lab: LabFolder, _: Any) -> None:
    _print(lab.ssh_config)


def _ssh(lab: LabFolder, given: Any) -> NoReturn:
    lab.load()
    _become(["ssh", "-F", str(lab.ssh_config), given.host, *given.args])


def _exec(lab: LabFolder, given: Any) -> NoReturn:
    (host,) = lab.load().chosen([given.host])
    _become(machines.enter_argv(host, *(given.args or ["bash", "-l"])))


def _run(lab: LabFolder, given: Any) -> NoReturn:
    lab.load()
    _become(network.inside(lab, *given.args))


def _become(argv: list[str]) -> NoReturn:
    os.execvp(argv[0], argv)  # noqa: S606 -- in place of this process, so that signals and the terminal are its own


def _reset(lab: LabFolder, given: Any) -> None:
    lifecycle.reset(lab, given.hosts)


def _save(lab: LabFolder, given: Any) -> None:
    lifecycle.save_layer(lab, given.host, given.layer)


def _clean(lab: LabFolder, _: Any) -> None:
    shutil.rmtree(lab.settings.cache, ignore_errors=True)


def _destroy(lab: LabFolder, given: Any) -> None:
    for name in lifecycle.labs(lab.settings) if given.all else [lab.name]:
        lifecycle.destroy(LabFolder(name, lab.settings))


def _proxy(lab: LabFolder, given: Any) -> None:
    lifecycle.run_proxy(lab, offline=given.offline)

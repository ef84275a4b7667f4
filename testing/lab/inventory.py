"""How a lab's hosts are reached from this machine: ssh's settings, and an inventory for Ansible."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from testing.lab import namespaces
from testing.lab.record import LabFolder, Record

FORMATS = ("yaml", "ini", "json")


def write(lab: LabFolder, record: Record) -> None:
    """Write what ssh and Ansible need to reach every host."""
    hosts = record.hosts.values()
    known = (f"{host.name},{host.ip} {' '.join(host.hostkey.split()[:2])}\n" for host in hosts)
    (lab.root / "known_hosts").write_text("".join(known))
    names = "".join(f"Host {host.name}\n  HostName {host.ip}\n" for host in hosts)
    lab.ssh_config.write_text(names + _common_ssh(lab))
    lab.inventory.write_text(text(lab, record, "yaml"))


def _common_ssh(lab: LabFolder) -> str:
    # Isolated and without site-packages: this Python starts once for each connection.
    program = shlex.join([sys.executable, "-IS", str(Path(namespaces.__file__).resolve()), lab.switch])
    proxy = program.replace("%", "%%") + " %h %p"
    return f"""Host *
  User root
  IdentityFile {lab.key}
  IdentitiesOnly yes
  UserKnownHostsFile {lab.root}/known_hosts
  StrictHostKeyChecking yes
  PasswordAuthentication no
  ProxyCommand {proxy}
  ProxyUseFdpass yes
  ConnectTimeout 30
  ServerAliveInterval 15
  ServerAliveCountMax 4
  ControlMaster auto
  ControlPath {lab.root}/cm-%C
  ControlPersist 60
"""


def text(lab: LabFolder, record: Record, style: str) -> str:
    """Return the inventory as ``yaml``, ``ini``, or ``json`` as a dynamic inventory prints it."""
    hosts = {host.name: {"ansible_host": host.ip, "lab_gpus": host.gpus} for host in record.hosts.values()}
    groups: dict[str, list[str]] = {}
    for host in record.hosts.values():
        for group in host.groups:
            groups.setdefault(group, []).append(host.name)
    if style == "json":
        return _dump(
            {
                "_meta": {"hostvars": hosts},
                "all": {"hosts": list(hosts), "vars": _variables(lab), "children": list(groups)},
            }
            | {group: {"hosts": members} for group, members in groups.items()}
        )
    if style == "ini":
        return _ini(hosts, groups, _variables(lab))
    children: dict[str, dict[str, Any]] = {
        group: {"hosts": {name: {} for name in members}} for group, members in groups.items()
    }
    return _dump({"all": {"vars": _variables(lab), "hosts": hosts, "children": children}})  # JSON is YAML


def _variables(lab: LabFolder) -> dict[str, str]:
    return {
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-F {lab.ssh_config}",
        "ansible_ssh_private_key_file": str(lab.key),
        # Not Ansible's shared folder: two labs have hosts at the same addresses.
        "ansible_control_path_dir": f"{lab.root}/cp",
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def _ini(hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]], common: dict[str, str]) -> str:
    lines = [
        f"{name} " + " ".join(f"{key}={value}" for key, value in values.items())
        for name, values in hosts.items()
    ]
    for group, members in groups.items():
        lines += ["", f"[{group}]", *members]
    lines += ["", "[all:vars]", *(f"{key}={value}" for key, value in common.items())]
    return "\n".join(lines) + "\n"


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"

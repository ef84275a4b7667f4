#!/usr/bin/python
"""Ansible module: check whether a host can run the service."""

DOCUMENTATION = r"""
module: host_facts
author: The ai-assist contributors
short_description: check a host's system, disks, memory, GPUs and ports
description:
  - Fails if the host does not meet the requirements, and names every problem with its remedy. Changes
    nothing.
  - Ansible's own fact gathering takes seconds on a busy host; this module reads only what is checked.
options:
  requirements:
    description: Required C(disk_gib) by folder, C(memory_gib), C(kernel), C(gpus), C(driver), and C(ports)
      by number.
    type: dict
    required: true
  markers:
    description:
      - Files that mark completed steps. Those that exist are returned, so that the steps need not each
        start a module to find out.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Preflight | Check the host
  host_facts:
    requirements:
      disk_gib: {/opt/ai-assist: 4.0}
      memory_gib: 1.0
      kernel: "5.10"
      gpus: 0
      driver: ""
      ports: {"443": NGINX}
    markers: [/etc/ai-assist/tls/key.pem]
  register: preflight_facts
"""

RETURN = r"""
host:
  description: C(os), C(version), C(kernel), C(systemd), C(container), C(memory_gib), C(disk_gib) by folder,
    C(gpus), C(driver), C(listening) (program and unit by port), C(arch).
  type: dict
  returned: always
completed:
  description: The markers that exist.
  type: list
  elements: str
  returned: success
problems:
  description: Every reason why the host cannot run the service.
  type: list
  elements: str
  returned: failure
"""

import platform
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_requirements import problems


def _os_release() -> dict[str, str]:
    release = Path("/etc/os-release")
    lines = release.read_text().splitlines() if release.exists() else []
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _memory_gib() -> float:
    match = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match[1]) / 2**20 if match else 0.0


def _free_gib(folder: str) -> float:
    """Return the free space of the file system that holds ``folder``, or will hold it."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 2**30


def _driver() -> str:
    version = Path("/proc/driver/nvidia/version")
    match = re.search(r"Module\s+([\d.]+)", version.read_text()) if version.exists() else None
    return match[1] if match else ""


def _listening(module: AnsibleModule) -> dict[str, str]:
    code, output, _ = module.run_command(
        ["ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes"]
    )
    holders = {}
    for line in output.splitlines() if code == 0 else ():
        port = line.split()[3].rsplit(":", 1)[-1]
        process = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
        holders[port] = f"{process[1]} ({_unit(process[2])})" if process else "another program"
    return holders


def _unit(pid: str) -> str:
    """Return the systemd unit that a process belongs to."""
    try:
        control_group = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return "gone"
    units = re.findall(r"([^/\s]+\.(?:service|scope))", control_group)
    return str(units[-1]) if units else f"pid {pid}"


def _gather(module: AnsibleModule, folders: dict[str, float]) -> dict[str, Any]:
    system = _os_release()
    return {
        "os": system.get("ID", ""),
        "version": system.get("VERSION_ID", ""),
        "arch": platform.machine(),
        "kernel": platform.release(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "container": Path("/run/systemd/container").exists(),
        "memory_gib": _memory_gib(),
        "disk_gib": {folder: _free_gib(folder) for folder in folders},
        "gpus": len([path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]),
        "driver": _driver(),
        "listening": _listening(module),
    }


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "requirements": {"type": "dict", "required": True},
        "markers": {"type": "list", "elements": "path", "default": []},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    requirements = module.params["requirements"]
    host = _gather(module, requirements["disk_gib"])
    found = problems(host, requirements)
    if found:
        node = platform.node()
        module.fail_json(msg=f"{node} {f'; {node} '.join(found)}", problems=found, host=host)
    completed = [marker for marker in module.params["markers"] if Path(marker).exists()]
    module.exit_json(changed=False, host=host, completed=completed)


if __name__ == "__main__":
    main()

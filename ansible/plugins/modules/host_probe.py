#!/usr/bin/python
"""Ansible module: what a preflight asks a host, in one step and without changing anything."""

import platform
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_needs import problems

DOCUMENTATION = """
module: host_probe
author: The ai-assist contributors
short_description: look at a host's system, disks, memory, GPUs and ports
description:
  - Fails where they can't serve and names everything that is wrong, with the remedy. Changes nothing.
  - Ansible's own facts take seconds on a busy host; this asks only what is judged.
options:
  needs:
    description: "What must be there: disk_gib (by folder), memory_gib, kernel, gpus, driver, ports (to use)."
    type: dict
    required: true
  markers:
    description: Files that steps leave when they are complete; those that are there are returned, so that
      the steps need not each start a module to look.
    type: list
    elements: path
    default: []
"""

RETURN = """
probe:
  description: C(os), C(version), C(kernel), C(systemd), C(container), C(memory_gib), C(disk_gib) by folder,
    C(gpus), C(driver), C(listening) (process and unit by port), C(arch).
  type: dict
  returned: always
there: {description: The markers that are there., type: list, elements: str, returned: always}
"""


def _os_release() -> dict[str, str]:
    release = Path("/etc/os-release")
    lines = release.read_text().splitlines() if release.exists() else []
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _memory_gib() -> float:
    match = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match[1]) / 2**20 if match else 0.0


def _free_gib(folder: str) -> float:
    """Return the free space of the file system that ``folder`` is or will be on."""
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
    found = {}
    for line in output.splitlines() if code == 0 else ():
        port = line.split()[3].rsplit(":", 1)[-1]
        process = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
        found[port] = f"{process[1]} ({_unit(process[2])})" if process else "another program"
    return found


def _unit(pid: str) -> str:
    """Return the systemd unit that a process belongs to."""
    try:
        control_group = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return "gone"
    units = re.findall(r"([^/\s]+\.(?:service|scope))", control_group)
    return str(units[-1]) if units else f"pid {pid}"


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "needs": {"type": "dict", "required": True},
        "markers": {"type": "list", "elements": "path", "default": []},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    needs = module.params["needs"]
    probe = _probe(module, needs["disk_gib"])
    found = problems(probe, needs)
    if found:
        module.fail_json(
            msg=f"{platform.node()} {f'; {platform.node()} '.join(found)}", problems=found, probe=probe
        )
    there = [marker for marker in module.params["markers"] if Path(marker).exists()]
    module.exit_json(changed=False, probe=probe, there=there)


def _probe(module: AnsibleModule, folders: dict[str, float]) -> dict[str, Any]:
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


if __name__ == "__main__":
    main()

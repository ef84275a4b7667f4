#!/usr/bin/python
"""Ansible module: inspect a host's NVIDIA driver and decide what to do."""

DOCUMENTATION = r"""
module: gpu_driver
author: The ai-assist contributors
short_description: inspect a host's NVIDIA driver and decide what to do
description:
  - Changes nothing, in check mode or outside it. Fails, with the remedy, where a person has to decide.
  - Reads /proc/driver/nvidia and not lsmod, because a kernel may have the module built in.
options:
  driver:
    description: The driver's part of the resolved stack.
    type: dict
    required: true
  record:
    description: JSON file that lists the packages which the role holds.
    type: path
    required: true
  require_working:
    description: Whether to fail unless the driver works now.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Driver | Decide what the host needs
  gpu_driver:
    driver: "{{ nvidia_driver_service }}"
    record: /var/lib/ai-assist/held.json
  register: nvidia_driver_decision
"""

RETURN = r"""
action:
  description: One of C(keep), C(install) and C(reboot).
  type: str
  returned: success
reason:
  description: The reason for the action.
  type: str
  returned: success
packages:
  description: Packages to install.
  type: list
  elements: str
  returned: success
components:
  description: Components of the archive that have the packages.
  type: list
  elements: str
  returned: success
hold:
  description: Packages to hold that are not on hold yet.
  type: list
  elements: str
  returned: success
held:
  description: Every package that the role holds.
  type: list
  elements: str
  returned: success
facts:
  description: What the decision is based on.
  type: dict
  returned: always
"""

import json
import platform
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.driver_decision import Refusal, decide, packages_to_hold, suits

_NVIDIA = "0x10de"
_DISPLAYS = ("0x0300", "0x0302")
_EFI_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _system() -> str:
    lines = dict(line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line)
    return f"{lines.get('ID', '')}-{lines.get('VERSION_ID', '')}".replace('"', "")


def _gpus() -> int:
    devices = Path("/sys/bus/pci/devices").glob("*")
    return sum(
        _read(each / "vendor").strip() == _NVIDIA and _read(each / "class")[:6] in _DISPLAYS
        for each in devices
    )


def _secure_boot() -> bool:
    """Return the state of Secure Boot; the variable holds four bytes of attributes, then the value."""
    variable = Path("/sys/firmware/efi/efivars") / _EFI_SECURE_BOOT
    try:
        return variable.read_bytes()[4:5] == b"\1"
    except OSError:
        return False


def _smi(module: AnsibleModule) -> tuple[int, str]:
    """Return nvidia-smi's exit status and first line; 127, as in a shell, if it is not installed."""
    program = module.get_bin_path("nvidia-smi")
    if program is None:
        return 127, "nvidia-smi is not installed"
    code, output, errors = module.run_command([program, "--query-gpu=index", "--format=csv,noheader"])
    return code, (output or errors).strip().partition("\n")[0]


def gather(module: AnsibleModule) -> dict[str, Any]:
    """Return the facts that the decision is based on."""
    version = re.search(r"Module(?: for \S+)?\s+([\d.]+)", _read("/proc/driver/nvidia/version"))
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${db:Status-Want} ${Package}\n"]
    rows = [line.split() for line in module.run_command(query, check_rc=True)[1].splitlines()]
    kernel = platform.release()
    built = any(Path(f"/lib/modules/{kernel}").rglob("nvidia*.ko*"))
    return {
        "os": _system(),
        "kernel": kernel,
        "gpus": _gpus(),
        "loaded": version[1] if version else "",
        "smi": _smi(module),
        "installed": [name for status, _, name in rows if status == "installed"],
        "on_hold": [name for _, want, name in rows if want == "hold"],
        "built": built,
        "secure_boot": _secure_boot(),
    }


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "driver": {"type": "dict", "required": True},
        "record": {"type": "path", "required": True},
        "require_working": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    driver, facts = module.params["driver"], gather(module)
    if module.params["require_working"] and not (facts["smi"][0] == 0 and suits(facts["loaded"], driver)):
        module.fail_json(
            msg=f"The driver does not work: {facts['smi'][1] or 'nvidia-smi printed nothing'}"
            f" (loaded: {facts['loaded'] or 'none'}). Find the cause on the host: dmesg | grep -i nvrm",
            facts=facts,
        )
    try:
        decision = decide(facts, driver)
    except Refusal as refusal:
        module.fail_json(msg=f"NVIDIA driver: {refusal}.", facts=facts)
    offer = driver["systems"].get(facts["os"], {"components": []})
    to_hold = packages_to_hold(facts["installed"] + list(decision.packages), driver, facts["os"])
    new = [name for name in to_hold if name not in facts["on_hold"]]
    module.exit_json(
        changed=False,
        action=decision.action,
        reason=decision.reason,
        packages=list(decision.packages),
        components=offer["components"],
        hold=new,
        held=sorted({*json.loads(_read(module.params["record"]) or "[]"), *new}),
        facts=facts,
    )


if __name__ == "__main__":
    main()

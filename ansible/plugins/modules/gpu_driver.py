#!/usr/bin/python
"""Ansible module: what a host's NVIDIA driver is, and what is to be done about it."""

import json
import platform
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpu_driver import Refusal, decide, held, suits

DOCUMENTATION = """
module: gpu_driver
author: The ai-assist contributors
short_description: look at a host's NVIDIA driver and decide
description:
  - Changes nothing, in check mode or out of it. Fails, with the remedy, where a person has to decide.
  - Looks at /proc/driver/nvidia and not at lsmod, as a kernel may have the module built in.
options:
  wanted: {description: The driver part of the resolved Service., type: dict, required: true}
  record: {description: The file of packages that this role has held., type: path, required: true}
  serving: {description: Fail unless the driver serves now., type: bool, default: false}
"""

RETURN = """
action: {description: "keep, install or reboot.", type: str, returned: always}
why: {description: The reason., type: str, returned: always}
packages: {description: What to install., type: list, elements: str, returned: always}
components: {description: The archive's components with them., type: list, elements: str, returned: always}
hold: {description: Packages to hold that are not held yet., type: list, elements: str, returned: always}
held: {description: Every package that this role holds., type: list, elements: str, returned: always}
"""
_NVIDIA, _DISPLAYS = "0x10de", ("0x0300", "0x0302")
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
    """Return the firmware's own word: four bytes of attributes, then the value."""
    variable = Path("/sys/firmware/efi/efivars") / _EFI_SECURE_BOOT
    try:
        return variable.read_bytes()[4:5] == b"\1"
    except OSError:
        return False


def _smi(module: AnsibleModule) -> tuple[int, str]:
    """Return nvidia-smi's exit status and first line; 127 where there is none, as a shell has it."""
    program = module.get_bin_path("nvidia-smi")
    if program is None:
        return 127, "nvidia-smi is not installed"
    code, output, errors = module.run_command([program, "--query-gpu=index", "--format=csv,noheader"])
    return code, (output or errors).strip().partition("\n")[0]


def look(module: AnsibleModule) -> dict[str, Any]:
    """Return what the decision is made from."""
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
        "wanted": {"type": "dict", "required": True},
        "record": {"type": "path", "required": True},
        "serving": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    wanted, seen = module.params["wanted"], look(module)
    if module.params["serving"] and not (seen["smi"][0] == 0 and suits(seen["loaded"], wanted)):
        module.fail_json(
            msg=f"The driver does not serve: {seen['smi'][1] or 'nvidia-smi says nothing'}"
            f" (loaded: {seen['loaded'] or 'none'}). `dmesg | grep -i nvrm` on the host says why."
        )
    try:
        decision = decide(seen, wanted)
    except Refusal as refusal:
        module.fail_json(msg=f"NVIDIA driver: {refusal}.", seen=seen)
    offer = wanted["systems"].get(seen["os"], {"components": []})
    to_hold = held(seen["installed"] + list(decision.packages), wanted, seen["os"])
    new = [name for name in to_hold if name not in seen["on_hold"]]
    module.exit_json(
        changed=False,
        action=decision.action,
        why=decision.why,
        packages=list(decision.packages),
        components=offer["components"],
        hold=new,
        held=sorted({*json.loads(_read(module.params["record"]) or "[]"), *new}),
        seen=seen,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: which units run from something else than what is on disk, and restart one of them."""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: stale_units
author: The ai-assist contributors
short_description: find units that were started from other content, and restart them
description:
  - A unit written by C(service_unit) holds a digest of all that it is started from, and records it at start.
    Those whose record differs are stale, whoever changed the files and whether or not anything was notified.
  - Without C(restart) it only looks. With it, it restarts what is stale and fails where that does not start.
options:
  units: {description: Units or instances of templates., type: list, elements: str, required: true}
  restart: {description: Whether to restart them., type: bool, default: false}
  gentle: {description: Whether to reload what runs instead., type: bool, default: false}
"""

RETURN = """
stale: {description: The units that were (or are) stale., type: list, elements: str, returned: always}
"""

_UNITS, _STAMPS = Path("/etc/systemd/system"), Path("/run/ai-assist")


def wanted(unit: str) -> str:
    """Return the digest in the unit's file; empty where it has none."""
    file = _UNITS / re.sub(r"@[^.]*\.", "@.", unit)
    match = re.search(r"echo (\S+) >/run/ai-assist/", file.read_text()) if file.is_file() else None
    return match[1] if match else ""


def running(module: AnsibleModule, unit: str) -> str:
    """Return the digest that the unit was started from; empty where it does not run."""
    code, _, _ = module.run_command(["systemctl", "is-active", "--quiet", unit])
    stamp = _STAMPS / unit
    return stamp.read_text().strip() if code == 0 and stamp.is_file() else ""


def renew(module: AnsibleModule, unit: str) -> None:
    """Restart or reload, and wait; a failed unit's count of starts is forgotten, or systemd would refuse."""
    verb = "reload" if module.params["gentle"] and running(module, unit) else "restart"
    module.run_command(["systemctl", "reset-failed", unit])
    code, output, errors = module.run_command(["systemctl", verb, unit])
    if code:
        last = ["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={unit}"]
        said = module.run_command(last)[1].strip()
        module.fail_json(msg=f"{unit} did not start: {(errors or output).strip()}\n{said}")


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "units": {"type": "list", "elements": "str", "required": True},
        "restart": {"type": "bool", "default": False},
        "gentle": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    stale = [unit for unit in module.params["units"] if wanted(unit) != running(module, unit)]
    act = module.params["restart"] and not module.check_mode
    for unit in stale if act else ():
        renew(module, unit)
    module.exit_json(changed=bool(module.params["restart"] and stale), stale=stale)


if __name__ == "__main__":
    main()

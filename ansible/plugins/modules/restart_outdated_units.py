#!/usr/bin/python
"""Ansible module: restart the units that run something else than what is on disk."""

DOCUMENTATION = r"""
module: restart_outdated_units
author: The ai-assist contributors
short_description: find units that were started from other content, and restart them
description:
  - A unit that C(service_unit) wrote holds a digest of everything it is started from, and records the
    digest at each start. A unit with another record is outdated, whether or not a handler was notified.
  - Restarts outdated units one after the other, and fails if one does not start. With O(restart=false) the
    module only reports them.
  - Supports check mode.
options:
  units:
    description: Units, or instances of template units.
    type: list
    elements: str
    required: true
  restart:
    description: Whether to restart outdated units.
    type: bool
    default: true
  revision:
    description: The digest that the units are to run, for a check that has not written their files. Without
      it, the one in each unit's file.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Triton | Check whether Triton runs what is on disk
  restart_outdated_units:
    units: [ai-assist-triton.service]
    restart: false
  register: triton_check

- name: Worker | Restart outdated workers
  restart_outdated_units:
    units: [ai-assist-worker@0.service, ai-assist-worker@1.service]
"""

RETURN = r"""
outdated:
  description: The units that are outdated, or were before they were restarted.
  type: list
  elements: str
  returned: always
"""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemctl import revision_in

_UNITS = Path("/etc/systemd/system")
_STAMPS = Path("/run/ai-assist")


def digest_on_disk(unit: str) -> str:
    """Return the digest in a unit's file; empty without one."""
    file = _UNITS / re.sub(r"@[^.]*\.", "@.", unit)
    return revision_in(file.read_text()) if file.is_file() else ""


def running_digest(module: AnsibleModule, unit: str) -> str:
    """Return the digest that a unit was started from; empty if the unit does not run."""
    code, _, _ = module.run_command(["systemctl", "is-active", "--quiet", unit])
    stamp = _STAMPS / unit
    return stamp.read_text().strip() if code == 0 and stamp.is_file() else ""


def restart(module: AnsibleModule, unit: str) -> None:
    """Restart a unit and wait. Its failed state is reset first, because systemd limits the rate of starts."""
    module.run_command(["systemctl", "reset-failed", unit])
    code, output, errors = module.run_command(["systemctl", "restart", unit])
    if code:
        last = ["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={unit}"]
        journal = module.run_command(last)[1].strip()
        module.fail_json(msg=f"{unit} did not start: {(errors or output).strip()}\n{journal}")


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "units": {"type": "list", "elements": "str", "required": True},
        "restart": {"type": "bool", "default": True},
        "revision": {"type": "str", "default": ""},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    outdated = [
        unit
        for unit in module.params["units"]
        if (module.params["revision"] or digest_on_disk(unit)) != running_digest(module, unit)
    ]
    restarts = outdated if module.params["restart"] else []
    for unit in restarts if not module.check_mode else ():
        restart(module, unit)
    module.exit_json(changed=bool(restarts), outdated=outdated)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: remove systemd units by the beginning of their names."""

DOCUMENTATION = r"""
module: systemd_units
author: The ai-assist contributors
short_description: stop and remove systemd units by the beginning of their names
description:
  - Stops the units, which lets requests in progress end, disables them, removes their files and clears
    their failed states.
  - C(service_unit) creates units.
  - Supports check mode.
options:
  prefix:
    description: The beginning of the units' names.
    type: str
    required: true
  state:
    description: The state of the units; C(absent) removes them.
    type: str
    choices: [absent]
    required: true
"""

EXAMPLES = r"""
- name: Teardown | Remove every unit of the service
  systemd_units:
    prefix: ai-assist-
    state: absent
"""

RETURN = r"""
changes:
  description: Units and files that were removed, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UNITS = Path("/etc/systemd/system")


def systemctl(module: AnsibleModule, *arguments: str) -> str:
    """Run systemctl; fail with its own output."""
    code, output, errors = module.run_command(["systemctl", *arguments])
    if code:
        module.fail_json(msg=f"systemctl {' '.join(arguments)} failed: {(errors or output).strip()}")
    return str(output)


def loaded(module: AnsibleModule, prefix: str) -> list[str]:
    """Return the units that systemd has in memory, including instances of templates."""
    listing = systemctl(module, "list-units", "--all", "--plain", "--no-legend", f"{prefix}*")
    return sorted(line.split()[0] for line in listing.splitlines() if line.strip())


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "prefix": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["absent"], "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    prefix: str = module.params["prefix"]
    files = sorted(UNITS.glob(f"{prefix}*"))
    services = [unit for unit in loaded(module, prefix) if unit.endswith((".service", ".timer"))]
    changes: list[Any] = [*services, *map(str, files)]
    if changes and not module.check_mode:
        if services:
            systemctl(module, "disable", "--now", *services)
        for path in files:
            path.unlink()
        systemctl(module, "daemon-reload")
        systemctl(module, "reset-failed")
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()

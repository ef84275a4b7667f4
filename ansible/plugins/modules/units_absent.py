#!/usr/bin/python
"""Ansible module: no unit of a family runs, starts at boot or is defined any more."""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: units_absent
author: The ai-assist contributors
short_description: stop and remove systemd units by the beginning of their names
description:
  - Stops the units, which lets requests under way end, disables them, removes their files and forgets their
    states.
  - Supports check mode.
options:
  prefix: {description: What the units' names begin with., type: str, required: true}
"""

UNITS = Path("/etc/systemd/system")


def systemctl(module: AnsibleModule, *arguments: str) -> str:
    """Run systemctl; fail with its own words."""
    code, output, errors = module.run_command(["systemctl", *arguments])
    if code:
        module.fail_json(msg=f"systemctl {' '.join(arguments)} failed: {(errors or output).strip()}")
    return str(output)


def loaded(module: AnsibleModule, prefix: str) -> list[str]:
    """Return the units that systemd has in memory, instances among them."""
    listing = systemctl(module, "list-units", "--all", "--plain", "--no-legend", f"{prefix}*")
    return sorted(line.split()[0] for line in listing.splitlines() if line.strip())


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"prefix": {"type": "str", "required": True}}, supports_check_mode=True
    )
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

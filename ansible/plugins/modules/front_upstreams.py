#!/usr/bin/python
"""Ansible module: which gateways NGINX sends nothing new to."""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: front_upstreams
author: The ai-assist contributors
short_description: drain gateways at NGINX
description:
  - Marks exactly the servers in C(drained) as C(down) in the configuration and reloads; requests under way
    end where they are. Leaves every other line alone, so it serves an old configuration as well as a new one.
  - While anything is drained, the unit's record says so, and C(service_unit) reloads it if a run is cut off.
options:
  config: {description: NGINX's configuration., type: path, required: true}
  drained: {description: "Gateways (host:port).", type: list, elements: str, required: true}
"""

_UNIT = "ai-assist-front.service"
_STAMP = Path("/run/ai-assist") / _UNIT
_SERVER = re.compile(r"^(\s*server (\S+) [^;{]*?)( down)?;$", re.MULTILINE)


def edited(text: str, drained: list[str]) -> str:
    """Return the configuration with exactly these servers down."""
    return _SERVER.sub(lambda match: f"{match[1]}{' down' if match[2] in drained else ''};", text)


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "config": {"type": "path", "required": True},
        "drained": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    config, drained = Path(module.params["config"]), module.params["drained"]
    before = config.read_text()
    after = edited(before, drained)
    if before != after and not module.check_mode:
        fresh = config.with_suffix(".fresh")
        fresh.write_text(after)
        fresh.chmod(config.stat().st_mode & 0o7777)
        fresh.replace(config)
        shape = _STAMP.read_text().split(".")[0] if _STAMP.is_file() else ""
        module.run_command(["systemctl", "reload", _UNIT], check_rc=True)
        if drained:
            _STAMP.write_text(f"{shape}.drained\n")
    module.exit_json(changed=before != after)


if __name__ == "__main__":
    main()

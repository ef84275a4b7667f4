#!/usr/bin/python
"""Ansible module: choose the gateways that NGINX sends no new requests to."""

DOCUMENTATION = r"""
module: nginx_drain
author: The ai-assist contributors
short_description: drain gateways at NGINX
description:
  - Marks exactly the servers in O(drained) as C(down) in the configuration and reloads NGINX. Requests in
    progress end where they are. No other line is touched, so that the module works on the configuration of
    any version.
  - While a gateway is drained, the stamp of NGINX's unit says so. The next run then reloads NGINX even if
    this run is interrupted.
  - Supports check mode.
options:
  config:
    description: NGINX's configuration file.
    type: path
    required: true
  drained:
    description: Gateways to drain, as host:port.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Gateway | Drain one gateway
  nginx_drain:
    config: /etc/ai-assist/nginx.conf
    drained: ["10.0.0.2:5000"]

- name: Gateway | Send requests to every gateway
  nginx_drain:
    config: /etc/ai-assist/nginx.conf
    drained: []
"""

RETURN = r""" # """

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# The second name is that of hosts which release 0.1 installed and which were not updated yet.
_UNITS = ("ai-assist-nginx.service", "ai-assist-front.service")
_STAMPS = Path("/run/ai-assist")
_SERVER = re.compile(r"^(\s*server (\S+) [^;{]*?)( down)?;$", re.MULTILINE)


def edited(text: str, drained: list[str]) -> str:
    """Return the configuration with exactly these servers down."""
    return _SERVER.sub(lambda match: f"{match[1]}{' down' if match[2] in drained else ''};", text)


def running_unit(module: AnsibleModule) -> str:
    """Return the unit that NGINX runs in."""
    for unit in _UNITS:
        if module.run_command(["systemctl", "is-active", "--quiet", unit])[0] == 0:
            return unit
    module.fail_json(msg="NGINX does not run. Remedy: run site.yml, or systemctl start ai-assist-nginx")
    raise AssertionError  # fail_json does not return


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
        unit = running_unit(module)
        stamp = _STAMPS / unit
        fresh = config.with_suffix(".fresh")
        fresh.write_text(after)
        fresh.chmod(config.stat().st_mode & 0o7777)
        fresh.replace(config)
        unit_digest = stamp.read_text().split(".")[0] if stamp.is_file() else ""
        module.run_command(["systemctl", "reload", unit], check_rc=True)
        if drained:
            stamp.write_text(f"{unit_digest}.drained\n")
    module.exit_json(changed=before != after)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: generate random secrets once, on the host that uses them, readable by root alone."""

DOCUMENTATION = r"""
module: generated_secrets
author: The ai-assist contributors
short_description: generate missing secrets and return all of them
description:
  - Keeps secrets by name in one JSON file of mode 0600. Existing secrets are kept; a missing one gets 256
    random bits.
  - Use C(no_log), because the module returns the secrets.
  - Supports check mode, in which missing secrets are random and are not stored.
options:
  path:
    description: The file of the secrets.
    type: path
    required: true
  names:
    description: Names of the secrets.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Redis | Generate the passwords
  generated_secrets:
    path: /etc/ai-assist/secrets/redis.json
    names: [gateway, jobs]
  register: redis_passwords
  no_log: true
"""

RETURN = r"""
secrets:
  description: The secrets by name.
  type: dict
  returned: always
"""

import json
import secrets
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.managed_files import FileError, Files, entry


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    path, names = Path(module.params["path"]), module.params["names"]
    try:
        stored: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"{path} cannot be read ({error}). Remedy: restore it, or remove it to generate new secrets."
        )
    generated = {name: secrets.token_urlsafe(32) for name in names if name not in stored}
    files = Files(not module.check_mode, module.run_command)
    text = json.dumps(stored | generated, indent=1, sort_keys=True) + "\n"
    try:
        files.ensure(entry(path=str(path.parent), state="directory", mode="0700"))
        files.ensure(entry(path=str(path), secret=text, mode="0600"))
    except FileError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(files.changes), secrets={name: (stored | generated)[name] for name in names}
    )


if __name__ == "__main__":
    main()

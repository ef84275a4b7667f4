#!/usr/bin/python
"""Ansible module: random secrets that are made where they are used, once, and never leave root's reach."""

import json
import secrets
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_files import OPTIONS, FileError, Files

DOCUMENTATION = """
module: stored_secrets
author: The ai-assist contributors
short_description: make secrets that are missing and return all of them
description:
  - Keeps C({name - secret}) in one file of mode 0600. What is there stays; a missing name gets 256 random
    bits. Run it with C(no_log), as it returns them. In check mode secrets that are not there are random
    and forgotten.
options:
  path: {description: The file., type: path, required: true}
  names: {description: What the secrets are for., type: list, elements: str, required: true}
"""

RETURN = """
secrets:
  description: The secrets by name.
  type: dict
  returned: always
"""


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    path = Path(module.params["path"])
    try:
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"{path} can't be read ({error}). Remedy: restore it, or remove it to make new secrets."
        )
    fresh = {name: secrets.token_urlsafe(32) for name in module.params["names"] if name not in known}
    files = Files(not module.check_mode, module.run_command)
    defaults = {name: option.get("default") for name, option in OPTIONS.items()}
    text = json.dumps(known | fresh, indent=1, sort_keys=True) + "\n"
    try:
        files.ensure(defaults | {"path": str(path.parent), "kind": "directory", "mode": "0700"})
        files.ensure(defaults | {"path": str(path), "secret": text, "mode": "0600"})
    except FileError as error:
        module.fail_json(msg=str(error))
    wanted = {name: (known | fresh)[name] for name in module.params["names"]}
    module.exit_json(changed=bool(files.changes), secrets=wanted)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: users that services run as, and nobody logs in as."""

import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: system_users
author: The assist-infra contributors
short_description: keep system users with a group of their own, and neither home nor shell
description:
  - Makes (or with C(state=absent) removes) several users in one step. Supports check mode.
options:
  names: {description: The users., type: list, elements: str, required: true}
  state: {description: Whether they are to be there., type: str, choices: [present, absent], default: present}
"""

_NEW = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent"]


def known(name: str) -> bool:
    """Say whether the host has a user called ``name``."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "names": {"type": "list", "elements": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    present = module.params["state"] == "present"
    changes = [name for name in module.params["names"] if known(name) != present]
    for name in changes if not module.check_mode else ():
        command = [*_NEW, "--shell=/usr/sbin/nologin", name] if present else ["userdel", name]
        code, output, errors = module.run_command(command)
        if code:
            module.fail_json(msg=f"{' '.join(command)} failed: {(errors or output).strip()}")
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()

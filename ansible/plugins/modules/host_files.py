#!/usr/bin/python
"""Ansible module: several files, folders and links at once."""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_files import OPTIONS, FileError, Files

DOCUMENTATION = """
module: host_files
author: The assist-infra contributors
short_description: keep files, folders and links, in one step
description:
  - Does in one step what C(file), C(copy) and C(template) start a module each for, or more. Starting modules
    is
    most of what a run that changes nothing costs.
  - In check mode it predicts, also for a host that has neither the folders nor the users. Secrets are not
    shown.
options:
  files:
    description: What is to be there, in this order. Keys are those of C(module_utils/host_files.py).
    type: list
    elements: dict
    required: true
"""


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "files": {"type": "list", "elements": "dict", "options": OPTIONS, "required": True}
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    files = Files(not module.check_mode, module.run_command)
    try:
        for entry in module.params["files"]:
            files.ensure(entry)
    except FileError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(files.changes), changes=files.changes, diff=files.diff)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: several files, folders and links at once, and the users that they belong to."""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_files import OPTIONS, FileError, Files
from ansible.module_utils.host_users import UserError, ensure

DOCUMENTATION = """
module: host_files
author: The ai-assist contributors
short_description: keep files, folders and links and their users, in one step
description:
  - Does in one step what C(user), C(file), C(copy) and C(template) start a module each for, or more. Starting
    modules is most of what a run that changes nothing costs.
  - In check mode it predicts, also for a host that has neither the folders nor the users. Secrets are
    not shown.
options:
  users:
    description: System users that are to be there before any file; a group of their own, no home, no shell.
    type: list
    elements: str
    default: []
  former_users:
    description: Users that are to be gone, after the files.
    type: list
    elements: str
    default: []
  files:
    description: What is to be there, in this order. Keys are those of C(module_utils/host_files.py).
    type: list
    elements: dict
    default: []
  absent: {description: Files and folders that are to be gone., type: list, elements: path, default: []}
  record:
    description: A JSON list of the folders that were made here and not found; a teardown removes these.
    type: path
"""


def remember(module: AnsibleModule, files: Files) -> None:
    """Add the folders that were made to the record."""
    if not module.params["record"] or not files.made or module.check_mode:
        return
    record = Path(module.params["record"])
    known = json.loads(record.read_text()) if record.exists() else []
    defaults = {name: option.get("default") for name, option in OPTIONS.items()}
    text = json.dumps(sorted({*known, *files.made}), indent=1) + "\n"
    Files(write=True, run=module.run_command).ensure(defaults | {"path": str(record), "content": text})


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "users": {"type": "list", "elements": "str", "default": []},
        "former_users": {"type": "list", "elements": "str", "default": []},
        "files": {"type": "list", "elements": "dict", "options": OPTIONS, "default": []},
        "absent": {"type": "list", "elements": "path", "default": []},
        "record": {"type": "path"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    told, run, write = module.params, module.run_command, not module.check_mode
    files = Files(write, run)
    defaults = {name: option.get("default") for name, option in OPTIONS.items()}
    gone = [defaults | {"path": path, "kind": "absent"} for path in told["absent"]]
    users: list[str] = []
    try:
        users += ensure(told["users"], run, present=True, write=write)
        for entry in [*gone, *told["files"]]:
            files.ensure(entry)
        remember(module, files)
        users += ensure(told["former_users"], run, present=False, write=write)
    except (FileError, UserError) as error:
        module.fail_json(msg=str(error))
    changes = users + files.changes
    module.exit_json(changed=bool(changes), changes=changes, diff=files.diff)


if __name__ == "__main__":
    main()

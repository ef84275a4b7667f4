#!/usr/bin/python
"""Ansible module: manage several files and folders at once, and the users that own them."""

DOCUMENTATION = r"""
module: managed_files
author: The ai-assist contributors
short_description: manage files, folders and their owners in one step
description:
  - Does in one step what C(user), C(file), C(copy) and C(template) each start a module for. Starting
    modules is most of what a run without changes costs.
  - A file is written beside its target and renamed, so that a reader sees the old content or the new one.
  - Supports check mode, also on a host that has neither the folders nor the users. Secrets are never shown.
options:
  users:
    description: System users to create before any file, each with a group of its own, no home and no shell.
    type: list
    elements: str
    default: []
  former_users:
    description: Users to remove after the files.
    type: list
    elements: str
    default: []
  files:
    description: Files and folders, applied in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description:
          - Whether to have a C(file), a C(directory), or neither (C(absent)).
          - C(absent_if_empty) removes a folder if it is empty.
        type: str
        choices: [file, directory, absent, absent_if_empty]
        default: file
      content:
        description: Text of a file.
        type: str
        default: ""
      secret:
        description: Text of a file that is never shown, in place of O(files[].content).
        type: str
      base64:
        description: Base64 of a file that is not text, in place of O(files[].content).
        type: str
      mode:
        description: Octal mode; C(0644) for files and C(0755) for folders by default.
        type: str
      owner:
        description: Owner; the user that runs the module by default.
        type: str
      group:
        description: Group; that of root by default, if root runs the module.
        type: str
      validate:
        description: Command that checks the new file, C(%s), before it replaces the old one.
        type: list
        elements: str
      triggers_restart:
        description: Whether a change restarts the unit that reads the file (C(service_unit)).
        type: bool
        default: true
  absent:
    description: Files and folders to remove first, with all that they hold.
    type: list
    elements: path
    default: []
  record:
    description: JSON file that lists the folders that were created and not found. A teardown removes these.
    type: path
"""

EXAMPLES = r"""
- name: Base | Create the users and folders
  managed_files:
    users: [assist-gateway]
    files:
      - {path: /etc/ai-assist, state: directory}
      - {path: /etc/ai-assist/gateway.env, content: "PORT=5000\n", mode: "0640", group: assist-gateway}
    record: /var/lib/ai-assist/folders.json
"""

RETURN = r"""
changes:
  description: Users and paths that changed, or would change in check mode.
  type: list
  elements: str
  returned: always
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_users import UserError, ensure
from ansible.module_utils.managed_files import OPTIONS, FileError, Files, entry


def record_folders(module: AnsibleModule, files: Files) -> None:
    """Add the folders that were created to the record."""
    if not module.params["record"] or not files.created_folders or module.check_mode:
        return
    record = Path(module.params["record"])
    recorded = json.loads(record.read_text()) if record.exists() else []
    text = json.dumps(sorted({*recorded, *files.created_folders}), indent=1) + "\n"
    Files(write=True, run=module.run_command).ensure(entry(path=str(record), content=text))


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
    params, run, write = module.params, module.run_command, not module.check_mode
    files = Files(write, run)
    removed = [entry(path=path, state="absent") for path in params["absent"]]
    users: list[str] = []
    try:
        users += ensure(params["users"], run, present=True, write=write)
        for item in [*removed, *params["files"]]:
            files.ensure(item)
        record_folders(module, files)
        users += ensure(params["former_users"], run, present=False, write=write)
    except (FileError, UserError) as error:
        module.fail_json(msg=str(error))
    changes = users + files.changes
    module.exit_json(changed=bool(changes), changes=changes, diff=files.diff)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: one file that its owner alone may read, in a folder that its owner alone may enter."""

from pathlib import Path
from typing import Any

from ansible.module_utils import private_files
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: private_file
author: The ai-assist contributors
short_description: keep a file's content, with mode 0600 in a folder of mode 0700
description:
  - Does in one step what C(file) for the folder and C(template) for the file start a module each for, or two.
    Starting modules is most of what a run that changes nothing costs.
  - The content is never shown, as it may hold secrets. Supports check mode.
options:
  path: {description: Where., type: path, required: true}
  content: {description: "What, such as from the C(template) lookup.", type: str, required: true}
"""


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    path, write = Path(module.params["path"]), not module.check_mode
    try:
        made = private_files.folder(path.parent, write=write)
        written = private_files.file(path, module.params["content"], write=write)
    except OSError as error:
        module.fail_json(msg=f"{path} can't be written: {error.strerror}")
    module.exit_json(changed=made or written)


if __name__ == "__main__":
    main()

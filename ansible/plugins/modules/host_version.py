#!/usr/bin/python
"""Ansible module: keep, undo and swap versions of the files that a service runs from."""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_versions import Versions

DOCUMENTATION = """
module: host_version
author: The ai-assist contributors
short_description: the version before a change, and N-1, byte for byte
description:
  - C(kept) keeps what is there before a change, C(undone) puts that back, C(done) makes it N-1.
  - C(previous) keeps what is there and puts N-1 in its place, so that C(done) swaps the two. After an update
    that did not finish it puts back what was before that; hosts that were not reached have that already.
  - Restarts nothing; systemd reads restored units. Supports check mode.
options:
  name: {description: What the files belong to., type: str, required: true}
  folder: {description: Where versions are kept., type: path, required: true}
  patterns: {description: Absolute globs of the files., type: list, elements: str, required: true}
  shift: {description: Whether anything changed on any host., type: bool, default: false}
  state: {description: What is to be., type: str, choices: [kept, undone, previous, done], required: true}
"""

RETURN = """
files: {description: Paths that differed; the name for C(done)., type: list, elements: str, returned: always}
"""


def _restore(module: AnsibleModule, version: Path, versions: Versions, reason: str) -> list[str]:
    if not version.exists():
        module.fail_json(msg=f"There is no version to go back to: {reason}")
    files = versions.restore(version, not module.check_mode)
    if files and not module.check_mode:
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    return files


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "folder": {"type": "path", "required": True},
        "patterns": {"type": "list", "elements": "str", "required": True},
        "shift": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["kept", "undone", "previous", "done"], "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    told, write = module.params, not module.check_mode
    versions = Versions(Path(told["folder"]), told["name"], tuple(told["patterns"]))
    files: list[str] = []
    if told["state"] == "kept":
        changed = versions.keep("stack", write)
    elif told["state"] == "done":
        changed = versions.changed()
        files = [told["name"]] if changed else []
        if write:
            versions.done(told["shift"])
    elif told["state"] == "undone":
        files = _restore(module, versions.pending, versions, "no change was begun here.")
        changed = bool(files)
    else:
        there = versions.before()
        versions.keep("previous", write and there.exists())
        files = _restore(module, there, versions, "only one version was ever deployed here.")
        changed = bool(files)
    module.exit_json(changed=changed, files=files)


if __name__ == "__main__":
    main()

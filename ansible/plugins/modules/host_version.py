#!/usr/bin/python
"""Ansible module: save, restore and swap versions of the files that a service runs from."""

DOCUMENTATION = r"""
module: host_version
author: The ai-assist contributors
short_description: the version before a change, and N-1, byte for byte
description:
  - A rolling update saves the present version, changes the files, and then either restores what it saved or
    commits it as N-1.
  - A rollback saves the present version and restores N-1, so that committing swaps the two. After an update
    that did not finish, a rollback restores the version from before that update; a host that the update did
    not reach has that version already.
  - Restarts no service. Restored units are loaded into systemd.
  - Supports check mode.
options:
  name:
    description: What the files belong to, such as gateway.
    type: str
    required: true
  folder:
    description: The folder of the snapshots.
    type: path
    required: true
  patterns:
    description: Absolute globs of the files.
    type: list
    elements: str
    required: true
  changed_anywhere:
    description: With C(committed), whether any host changed. If not, N-1 stays what it is.
    type: bool
    default: false
  state:
    description:
      - C(saved) keeps the present version before a change.
      - C(restored) puts the saved version back.
      - C(rolled_back) saves the present version and puts N-1 in its place.
      - C(committed) makes the saved version N-1.
    type: str
    choices: [saved, restored, rolled_back, committed]
    required: true
"""

EXAMPLES = r"""
- name: Triton | Save the present version
  host_version:
    name: triton
    folder: /var/lib/ai-assist/versions
    patterns: [/etc/systemd/system/ai-assist-triton.service]
    state: saved
"""

RETURN = r"""
files:
  description: Paths that differed; with C(committed), the name if the version changed.
  type: list
  elements: str
  returned: always
revisions:
  description: With C(restored) and C(rolled_back), the digest that each of the units records at a start.
  type: dict
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.snapshots import TO_PREVIOUS, TO_STACK, Snapshots
from ansible.module_utils.systemctl import revision_in


def restore(module: AnsibleModule, snapshots: Snapshots, version: Path, missing: str) -> list[str]:
    """Restore a version and return the paths that differed; fail with ``missing`` if it does not exist."""
    if not version.exists():
        module.fail_json(msg=f"No version to restore: {missing}")
    files = snapshots.restore(version, not module.check_mode)
    if files and not module.check_mode:
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    return files


def roll_back(module: AnsibleModule, snapshots: Snapshots) -> list[str]:
    """Save the present version and restore N-1; return the paths that differed."""
    version = snapshots.rollback_target()
    snapshots.save(TO_PREVIOUS, not module.check_mode and version.exists())
    return restore(module, snapshots, version, "this host has had one version only.")


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "folder": {"type": "path", "required": True},
        "patterns": {"type": "list", "elements": "str", "required": True},
        "changed_anywhere": {"type": "bool", "default": False},
        "state": {
            "type": "str",
            "choices": ["saved", "restored", "rolled_back", "committed"],
            "required": True,
        },
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    params, write = module.params, not module.check_mode
    snapshots = Snapshots(Path(params["folder"]), params["name"], tuple(params["patterns"]))
    files: list[str] = []
    revisions: dict[str, str] = {}
    if params["state"] == "saved":
        changed = snapshots.save(TO_STACK, write)
    elif params["state"] == "committed":
        changed = snapshots.changed()
        files = [params["name"]] if changed else []
        if write:
            snapshots.commit(params["changed_anywhere"])
    else:
        back = params["state"] == "rolled_back"
        version = snapshots.rollback_target() if back else snapshots.pending
        revisions = {name: revision_in(text) for name, text in snapshots.units(version).items()}
        files = (
            roll_back(module, snapshots)
            if back
            else restore(module, snapshots, version, "no change of this host was begun.")
        )
        changed = bool(files)
    module.exit_json(changed=changed, files=files, revisions=revisions)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: a systemd unit and the files it reads, with running instances that match them."""

DOCUMENTATION = r"""
module: service_unit
author: The ai-assist contributors
short_description: keep a systemd unit, its files and its running instances in step
description:
  - Writes the files and the unit, enables the unit, and starts it if it does not run.
  - Restarts or reloads the unit if it was started from other content. The unit itself records at each start
    what it was started from (C(@REVISION@)), so that a run which was interrupted between writing and
    restarting is completed by the next one. Nothing depends on whether a handler was notified.
  - Instances of a template unit are brought up one after the other.
  - Supports check mode, also on a host where nothing exists yet.
options:
  name:
    description: A unit, such as a.service, or a template unit, such as a@.service.
    type: str
    required: true
  content:
    description: Text of the unit, in which C(@REVISION@) is replaced by the digest of unit and files.
    type: str
    required: true
  instances:
    description: Instances of a template unit; other running instances are stopped.
    type: list
    elements: str
  files:
    description: Files that the unit reads, with the suboptions of C(managed_files).
    type: list
    elements: dict
    default: []
  extra_revision:
    description: Digest of anything else that a restart would pick up.
    type: str
    default: ""
  reload:
    description: Whether a reload is enough if only the files changed.
    type: bool
    default: false
  activate:
    description: Whether to start and restart instances. A rolling update only writes the files and restarts
      them itself.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Triton | Serve the model
  service_unit:
    name: ai-assist-triton.service
    content: "{{ lookup('ansible.builtin.template', 'ai-assist-triton.service.j2') }}"

- name: Worker | Run one worker for each GPU
  service_unit:
    name: ai-assist-worker@.service
    instances: ["0", "1"]
    content: "{{ lookup('ansible.builtin.template', 'ai-assist-worker.service.j2') }}"
    files:
      - path: /etc/ai-assist/worker.env
        content: "{{ lookup('ansible.builtin.template', 'worker.env.j2') }}"
"""

RETURN = r"""
changes:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: always
revision:
  description: The digest of unit and files.
  type: str
  returned: always
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.managed_files import OPTIONS, FileError, Files, content, entry
from ansible.module_utils.systemctl import ACTIVE, systemctl, unit_state

UNITS = Path("/etc/systemd/system")
# Each unit writes here what it was started from; empty after a boot, when no unit runs.
STAMPS = Path("/run/ai-assist")


def digest(*parts: object) -> str:
    """Return a short digest of ``parts``, which are plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Unit:
    """One unit file and its instances; ``changes`` collects what was done or would be done."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.params = module, module.params
        self.files = Files(not module.check_mode, module.run_command)
        read = [
            (item["path"], content(item).decode("utf-8", "surrogateescape"), item["mode"])
            for item in self.params["files"]
            if item["triggers_restart"]
        ]
        self.unit_digest = digest(self.params["content"], self.params["extra_revision"])
        self.revision = f"{self.unit_digest}.{digest(read)}"
        self.changes: list[str] = []

    def write(self) -> None:
        """Write the files first and the unit last, so that a unit never refers to files older than itself."""
        for item in self.params["files"]:
            self.files.ensure(item)
        text = self.params["content"].replace("@REVISION@", self.revision)
        written = self.files.ensure(entry(path=str(UNITS / self.params["name"]), content=text))
        self.changes += [f"write {path}" for path in self.files.changes]
        if written:
            self.systemctl("daemon-reload")

    def activate(self) -> None:
        """Bring each instance up to date, one after the other."""
        name, instances = self.params["name"], self.params["instances"]
        units = [name] if instances is None else [name.replace("@.", f"@{one}.") for one in instances]
        for unit in units:
            self.bring_up(unit)
        if instances is not None:
            self.stop_others(set(units))

    def bring_up(self, unit: str) -> None:
        """Enable and start ``unit``; restart or reload it if it was started from other content."""
        state = unit_state(self.module, unit)
        if state["UnitFileState"] != "enabled":
            self.do(f"enable {unit}", "enable", unit)
        stamp = STAMPS / unit
        started = stamp.read_text().strip() if stamp.is_file() else ""
        if state["ActiveState"] not in ACTIVE:
            self.do(f"start {unit}", "restart", unit)  # `restart` also starts a failed or half-started unit
        elif started != self.revision:
            reload = self.params["reload"] and started.split(".")[0] == self.unit_digest
            verb = "reload" if reload else "restart"
            self.do(f"{verb} {unit}", verb, unit)

    def stop_others(self, listed: set[str]) -> None:
        """Stop running instances that are not listed."""
        pattern = self.params["name"].replace("@.", "@*.")
        command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern]
        listing = str(self.module.run_command(command)[1])
        for unit in sorted({line.split()[0] for line in listing.splitlines() if line.strip()} - listed):
            if unit_state(self.module, unit)["ActiveState"] in ACTIVE:
                self.do(f"stop {unit}", "disable", "--now", unit)

    def do(self, change: str, *arguments: str) -> None:
        """Record a change and make it, unless in check mode."""
        self.changes.append(change)
        self.systemctl(*arguments)

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl to change a state; fail with the last lines of the unit's journal."""
        if not self.module.check_mode:
            systemctl(self.module, self.changes, *arguments)


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "instances": {"type": "list", "elements": "str"},
        "files": {"type": "list", "elements": "dict", "options": OPTIONS, "default": []},
        "extra_revision": {"type": "str", "default": ""},
        "reload": {"type": "bool", "default": False},
        "activate": {"type": "bool", "default": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    unit = Unit(module)
    try:
        unit.write()
    except FileError as error:
        module.fail_json(msg=str(error))
    if module.params["activate"]:
        unit.activate()
    module.exit_json(
        changed=bool(unit.changes), changes=unit.changes, revision=unit.revision, diff=unit.files.diff
    )


if __name__ == "__main__":
    main()

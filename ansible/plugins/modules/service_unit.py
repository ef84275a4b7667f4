#!/usr/bin/python
"""Ansible module: a systemd unit with the files it reads, running what they say."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_files import OPTIONS, FileError, Files, content

DOCUMENTATION = """
module: service_unit
author: The ai-assist contributors
short_description: keep a systemd unit, its files and what runs in step
description:
  - Writes the files and the unit, enables it, and starts it where it does not run.
  - Restarts (or reloads) it where what runs was started from other content. The unit itself records at each
    start what it was started from (C(@REVISION@)), so a run that was cut off between writing and restarting
    is made good by the next; nothing depends on a handler that was or was not notified.
  - Instances of a template unit are taken one after the other. Supports check mode, before anything
    exists too.
options:
  name: {description: "A unit, such as a.service, or a template, a@.service.", type: str, required: true}
  content: {description: "It; C(@REVISION@) becomes the digest of all of this.", type: str, required: true}
  instances: {description: Instances of a template unit; others are stopped., type: list, elements: str}
  files: {description: What the unit reads; see C(host_files)., type: list, elements: dict, default: []}
  also: {description: What else a restart would pick up, as a digest., type: str, default: ""}
  reload: {description: Whether a change of C(files) alone takes a reload., type: bool, default: false}
  run: {description: Whether to restart; a rolling update does so itself., type: bool, default: true}
"""

RETURN = """
changes:
  description: What was (or in check mode would be) done.
  type: list
  elements: str
  returned: always
"""

UNITS = Path("/etc/systemd/system")
# Where each unit writes what it was started from; empty after a reboot, as no unit runs then.
STAMPS = Path("/run/ai-assist")
_ACTIVE = {"active", "reloading"}


def digest(*parts: object) -> str:
    """Return a short digest of ``parts``, which are plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Unit:
    """One unit file and its instances."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.told = module, module.params
        self.files = Files(not module.check_mode, module.run_command)
        read = [
            (entry["path"], content(entry), entry["mode"])
            for entry in self.told["files"]
            if not entry["live"]
        ]
        self.shape = digest(self.told["content"], self.told["also"])
        self.revision = f"{self.shape}.{digest(read)}"
        self.changes: list[str] = []

    def write(self) -> None:
        """Write the files, then the unit, so that a unit never names files that are older than itself."""
        for entry in self.told["files"]:
            self.files.ensure(entry)
        text = self.told["content"].replace("@REVISION@", self.revision)
        defaults = {name: option.get("default") for name, option in OPTIONS.items()}
        path = UNITS / self.told["name"]
        written = self.files.ensure(defaults | {"path": str(path), "content": text})
        self.changes += [f"write {path}" for path in self.files.changes]
        if written:
            self.systemctl("daemon-reload")

    def run(self) -> None:
        """Bring each instance up to date, one after the other."""
        name, instances = self.told["name"], self.told["instances"]
        units = [name] if instances is None else [name.replace("@.", f"@{one}.") for one in instances]
        for unit in units:
            self.bring_up(unit)
        if instances is not None:
            self.stop_others(set(units))

    def bring_up(self, unit: str) -> None:
        """Enable and start ``unit``; restart or reload it where it was started from something else."""
        state = self.show(unit)
        if state["UnitFileState"] != "enabled":
            self.do(f"enable {unit}", "enable", unit)
        stamp = STAMPS / unit
        started = stamp.read_text().strip() if stamp.is_file() else ""
        if state["ActiveState"] not in _ACTIVE:
            self.do(f"start {unit}", "restart", unit)  # restart: also out of a failed or half-started state
        elif started != self.revision:
            gentle = self.told["reload"] and started.split(".")[0] == self.shape
            verb = "reload" if gentle else "restart"
            self.do(f"{verb} {unit}", verb, unit)

    def stop_others(self, wanted: set[str]) -> None:
        """Stop the instances that are not wanted any more."""
        pattern = self.told["name"].replace("@.", "@*.")
        listing = self.ask("list-units", "--all", "--plain", "--no-legend", pattern)
        for unit in sorted({line.split()[0] for line in listing.splitlines() if line.strip()} - wanted):
            if self.show(unit)["ActiveState"] in _ACTIVE:
                self.do(f"stop {unit}", "disable", "--now", unit)

    def show(self, unit: str) -> dict[str, str]:
        """Return the unit's states."""
        lines = self.ask("show", unit, "--property=ActiveState,UnitFileState").splitlines()
        return {"ActiveState": "", "UnitFileState": ""} | dict(
            line.split("=", 1) for line in lines if "=" in line
        )

    def ask(self, *arguments: str) -> str:
        """Run systemctl to look."""
        return str(self.module.run_command(["systemctl", *arguments])[1])

    def do(self, change: str, *arguments: str) -> None:
        """Note a change and make it, unless only asked what would change."""
        self.changes.append(change)
        self.systemctl(*arguments)

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl to act; fail with what the unit itself said last."""
        if self.module.check_mode:
            return
        code, output, errors = self.module.run_command(["systemctl", *arguments])
        if code:
            last = ["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={arguments[-1]}"]
            said = self.module.run_command(last)[1]
            self.module.fail_json(
                msg=f"systemctl {' '.join(arguments)} failed: {(errors or output).strip()}\n{said.strip()}",
                changes=self.changes,
            )


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "instances": {"type": "list", "elements": "str"},
        "files": {"type": "list", "elements": "dict", "options": OPTIONS, "default": []},
        "also": {"type": "str", "default": ""},
        "reload": {"type": "bool", "default": False},
        "run": {"type": "bool", "default": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    unit = Unit(module)
    try:
        unit.write()
    except FileError as error:
        module.fail_json(msg=str(error))
    if module.params["run"]:
        unit.run()
    module.exit_json(changed=bool(unit.changes), changes=unit.changes, diff=unit.files.diff)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: install Debian packages, with a record of those that were missing before."""

DOCUMENTATION = r"""
module: debian_packages
author: The ai-assist contributors
short_description: install Debian packages and record which were new
description:
  - Installs missing packages without recommendations, and adds every package that was installed with them to
    O(record), so that a teardown removes these and no others. The package lists are updated only if a package
    is missing.
  - Masks the units in O(masked) before their package is installed, because Debian would start the service
    then. A unit that exists already belongs to the administrator and is not masked.
  - Waits for other installations. One of these may be the module of an interrupted run, which finishes on
    its own.
  - With O(state=absent), removes the recorded packages and the masks.
  - Supports check mode.
options:
  names:
    description: Names of the packages.
    type: list
    elements: str
    default: []
  masked:
    description: Units that must not start on installation, by package.
    type: dict
    default: {}
  record:
    description: JSON file that lists what was installed.
    type: path
    required: true
  state:
    description: Whether to install the packages or to remove the recorded ones.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Base | Install the Debian packages
  debian_packages:
    names: [nginx, openssl]
    masked: {nginx: nginx.service}
    record: /var/lib/ai-assist/packages.json

- name: Teardown | Remove the packages that the service brought
  debian_packages:
    record: /var/lib/ai-assist/packages.json
    state: absent
"""

RETURN = r"""
changes:
  description: Packages and masks that changed, or would change in check mode.
  type: list
  elements: str
  returned: always
"""

import fcntl
import json
import os
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

_UNITS = Path("/etc/systemd/system")
_LOCK = Path("/run/lock/ai-assist-packages")
# Unattended upgrades hold dpkg's lock on new hosts.
_APT = ["apt-get", "--option=DPkg::Lock::Timeout=600"]


class Packages:
    """Packages of this host, and what purging leaves behind: masks, users, files in /var."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path = Path(module.params["record"])
        self.record: dict[str, list[str]] = {"packages": [], "masked": [], "users": [], "files": []}
        if self.path.exists():
            self.record |= json.loads(self.path.read_text())

    def installed(self) -> set[str]:
        """Return the names of all installed packages."""
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n"]
        lines = self.command(query).splitlines()
        return {line.split()[1] for line in lines if line.startswith("installed ")}

    def present(self) -> list[str]:
        """Install missing packages; return their names, also in check mode."""
        before = self.installed()
        missing = sorted(set(self.module.params["names"]) - before)
        if not missing or self.module.check_mode:
            return missing
        users, folders = _users(), _folders()
        self.mask(set(missing))
        # Recorded first, so that the packages of an interrupted run are removed by a teardown, too.
        self.add("packages", set(missing))
        self.save()
        self.command([*_APT, "update", "--quiet"])
        self.command([*_APT, "install", "--yes", "--quiet", "--no-install-recommends", *missing])
        self.add("packages", self.installed() - before)
        self.add("users", _users() - users)
        self.add("files", {str(path) for new in _folders() - folders for path in [new, *new.rglob("*")]})
        self.save()
        return missing

    def mask(self, missing: set[str]) -> None:
        """Prevent the services of new packages from starting, now and at boot."""
        for package, unit in self.module.params["masked"].items():
            path = _UNITS / unit
            if package in missing and not path.exists() and not path.is_symlink():
                path.symlink_to("/dev/null")
                self.add("masked", {unit})

    def absent(self) -> list[str]:
        """Remove the recorded packages and masks; return their names, also in check mode."""
        recorded = sorted(set(self.record["packages"]) & self.installed())
        removed = recorded + [f"mask of {unit}" for unit in self.record["masked"]]
        if not removed or self.module.check_mode:
            return removed
        if recorded:
            self.command([*_APT, "purge", "--yes", "--quiet", *recorded])
        for unit in self.record["masked"]:
            (_UNITS / unit).unlink(missing_ok=True)
        self.remove_leftovers()
        self.path.unlink(missing_ok=True)
        return removed

    def remove_leftovers(self) -> None:
        """Remove what purging left; a file that the administrator added stays, with its folder."""
        for user in set(self.record["users"]) & _users():
            self.command(["userdel", user])
        inner_first = sorted(map(Path, self.record["files"]), reverse=True)
        for path in inner_first:
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def add(self, kind: str, names: set[str]) -> None:
        """Add names to the record."""
        self.record[kind] = sorted({*self.record[kind], *names})

    def save(self) -> None:
        """Replace the record's file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(self.record, indent=1) + "\n")
        fresh.replace(self.path)

    def command(self, argv: list[str]) -> str:
        """Run a command of dpkg or apt; fail with its own output."""
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
        code, output, errors = self.module.run_command(argv, environ_update=quiet)
        if code:
            remedy = "Without a route to an archive, set a mirror in /etc/apt/sources.list or use a bundle."
            details = (errors or output).strip()
            self.module.fail_json(
                msg=f"{' '.join(word for word in argv[:3] if word[0] != '-')} failed. {remedy}\n{details}"
            )
        return str(output)


def _users() -> set[str]:
    return {user.pw_name for user in pwd.getpwall()}


def _folders() -> set[Path]:
    """Return the folders of /var: a package's setup creates some there that its removal does not know."""
    return set(Path("/var").iterdir())


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "names": {"type": "list", "elements": "str", "default": []},
        "masked": {"type": "dict", "default": {}},
        "record": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    with _LOCK.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        packages = Packages(module)
        changes = packages.present() if module.params["state"] == "present" else packages.absent()
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Ansible module: Debian packages, with a record of those that were not there before."""

import fcntl
import json
import os
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: debian_packages
author: The ai-assist contributors
short_description: install Debian packages and remember which were new
description:
  - Installs what is missing, without recommendations, and appends every package that came with it to
    C(record), so that a teardown removes these and no others. Asks dpkg first; apt's lists are fetched only
    if something is missing.
  - Units in C(masked) are masked before their package is installed, as Debian starts a service then. A unit
    that was there before is somebody else's and is left alone.
  - Waits for whoever installs packages now. That may be the module of a run that was killed, which goes on
    without it, and whose record is then complete.
  - With C(state=absent) it removes what the record names and lifts its masks. Supports check mode.
options:
  names: {description: Packages., type: list, elements: str, default: []}
  masked: {description: Units that must not start by themselves, by package., type: dict, default: {}}
  record: {description: The file of what was installed., type: path, required: true}
  state: {description: Whether they are to be there., type: str, choices: [present, absent], default: present}
"""

_UNITS = Path("/etc/systemd/system")
_LOCK = Path("/run/lock/ai-assist-packages")
# For unattended upgrades, which new hosts begin with.
_APT = ["apt-get", "--option=DPkg::Lock::Timeout=600"]


class Packages:
    """Packages of this host, and what their removal leaves: masks, users, files of /var."""

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
        """Install what is missing; return what was (or would be)."""
        before = self.installed()
        missing = sorted(set(self.module.params["names"]) - before)
        if not missing or self.module.check_mode:
            return missing
        users, folders = _users(), _folders()
        self.mask(set(missing))
        # Written first: what a run that is cut off has installed is ours as well.
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
        """Keep the services of new packages from starting, now and at boot."""
        for package, unit in self.module.params["masked"].items():
            path = _UNITS / unit
            if package in missing and not path.exists() and not path.is_symlink():
                path.symlink_to("/dev/null")
                self.add("masked", {unit})

    def absent(self) -> list[str]:
        """Remove what the record names; return what was (or would be) removed."""
        ours = sorted(set(self.record["packages"]) & self.installed())
        removed = ours + [f"mask of {unit}" for unit in self.record["masked"]]
        if not removed or self.module.check_mode:
            return removed
        if ours:
            self.command([*_APT, "purge", "--yes", "--quiet", *ours])
        for unit in self.record["masked"]:
            (_UNITS / unit).unlink(missing_ok=True)
        self.sweep()
        self.path.unlink(missing_ok=True)
        return removed

    def sweep(self) -> None:
        """Remove what purging the packages has left; what somebody added stays, with its folder."""
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
        """Put names on the record."""
        self.record[kind] = sorted({*self.record[kind], *names})

    def save(self) -> None:
        """Write the record, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(self.record, indent=1) + "\n")
        fresh.replace(self.path)

    def command(self, argv: list[str]) -> str:
        """Run a command of dpkg or apt; fail with its own words."""
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
        code, output, errors = self.module.run_command(argv, environ_update=quiet)
        if code:
            remedy = "Without a route to an archive, name a mirror in /etc/apt/sources.list, or use a bundle."
            said = (errors or output).strip()
            self.module.fail_json(
                msg=f"{' '.join(word for word in argv[:3] if word[0] != '-')} failed. {remedy}\n{said}"
            )
        return str(output)


def _users() -> set[str]:
    return {user.pw_name for user in pwd.getpwall()}


def _folders() -> set[Path]:
    """Return the folders of /var: packages make some there as they are set up, which no removal knows."""
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

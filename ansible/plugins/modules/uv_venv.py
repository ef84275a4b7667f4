#!/usr/bin/python
"""Ansible module: keep virtual environments equal to their lock files."""

DOCUMENTATION = r"""
module: uv_venv
author: The ai-assist contributors
short_description: keep virtual environments equal to their lock files
description:
  - Compares the installed packages with hash-locked requirements and installs what differs, with uv.
  - Reads the environment itself, so that a package that was changed by hand is found. The comparison needs
    no network.
  - Supports check mode.
options:
  uv:
    description: Path of uv.
    type: path
    required: true
  python:
    description: Interpreter of new environments; by default the one that runs the module.
    type: path
  source:
    description: The project's folder, which is added to each environment's sys.path.
    type: path
    required: true
  root:
    description: The folder of the environments.
    type: path
    required: true
  environments:
    description: Lock files (in source/requirements) by environment.
    type: dict
    required: true
  wheelhouse:
    description: Folder with every wheel. No index and no network are used then.
    type: path
"""

EXAMPLES = r"""
- name: Environments | Install the locked packages
  uv_venv:
    uv: /opt/ai-assist/tools/bin/uv
    source: /opt/ai-assist/releases/0123456789ab
    root: /opt/ai-assist/releases/0123456789ab/venvs
    environments: {gateway: [gateway.txt]}
"""

RETURN = r"""
changes:
  description: What was changed, or would be changed in check mode, by environment.
  type: dict
  returned: always
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pip_settings import uv_environment


class Venv:
    """One environment and the packages that it must hold."""

    def __init__(self, module: AnsibleModule, name: str, locks: list[str]) -> None:
        self.module = module
        self.path = Path(module.params["root"]) / name
        source = Path(module.params["source"])
        requirements = [f"--requirement={source / 'requirements' / lock}" for lock in locks]
        interpreter = f"--python={self.path / 'bin' / 'python'}"
        self.install = ["pip", "install", "--no-deps", "--require-hashes", interpreter, *requirements]
        self.link_text = f"{source}\n"

    @property
    def usable(self) -> bool:
        """Whether its interpreter runs."""
        python = self.path / "bin" / "python"
        return os.access(python, os.X_OK) and subprocess.run([python, "-c", ""], check=False).returncode == 0

    @property
    def link(self) -> Path | None:
        """The file that adds the project to sys.path; Python itself reads it at start."""
        sites = sorted(self.path.glob("lib/python3*/site-packages"))
        return sites[0] / "ai_assist.pth" if sites else None

    @property
    def former_link(self) -> Path | None:
        """The same file under its name until release 0.1, if the environment still has one."""
        former = self.link.with_name("assist_infra.pth") if self.link else None
        return former if former and former.exists() else None

    def changes(self) -> list[str]:
        """Return the differences from the lock files, as uv reports them."""
        if not self.usable:
            return ["create the environment and install every package"]
        report = self.uv([*self.install, "--dry-run"])
        packages = [
            line.strip() for line in report.splitlines() if line.lstrip().startswith(("+ ", "- ", "~ "))
        ]
        linked = self.link is not None and self.link.exists() and self.link.read_text() == self.link_text
        return packages + ([] if linked and not self.former_link else ["add the project to sys.path"])

    def apply(self) -> None:
        """Bring the environment up to date; correct packages are not installed again."""
        if not self.usable:
            self.uv(
                [
                    "venv",
                    "--clear",
                    f"--python={self.module.params['python'] or Path(sys.executable).resolve()}",
                    str(self.path),
                ]
            )
        self.uv(self.install)
        if self.link is not None:
            self.link.write_text(self.link_text)
        if self.former_link:
            self.former_link.unlink()

    def uv(self, arguments: list[str]) -> str:
        """Run uv and return its output; fail with its message and the remedy."""
        wheelhouse = self.module.params["wheelhouse"]
        if wheelhouse and arguments[0] == "pip":
            arguments = [*arguments, "--offline", "--no-index", f"--find-links={wheelhouse}"]
        command = [self.module.params["uv"], "--no-progress", "--color=never", *arguments]
        environment = uv_environment(os.environ)
        code, output, errors = self.module.run_command(command, environ_update=environment)
        if code:
            remedy = "Without a network, set PIP_INDEX_URL or UV_DEFAULT_INDEX to a mirror."
            self.module.fail_json(
                msg=f"uv could not bring {self.path} up to date. {remedy}\n{errors or output}"
            )
        return str(errors + output)


def wait_for_others(root: Path) -> None:
    """Lock ``root`` until this process ends: the module of an interrupted run may still be working."""
    if root.is_dir():
        fcntl.flock(os.open(root, os.O_RDONLY), fcntl.LOCK_EX)


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {name: {"type": "path", "required": True} for name in ("uv", "source", "root")}
    options |= {"environments": {"type": "dict", "required": True}, "python": {"type": "path"}}
    options |= {"wheelhouse": {"type": "path"}}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    changes: dict[str, list[str]] = {}
    wait_for_others(Path(module.params["root"]))
    for name, locks in module.params["environments"].items():
        venv = Venv(module, name, locks)
        differences = venv.changes()
        if differences and not module.check_mode:
            venv.apply()
        changes[name] = differences
    module.exit_json(changed=any(changes.values()), changes=changes)


if __name__ == "__main__":
    main()

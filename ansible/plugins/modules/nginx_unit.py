#!/usr/bin/python
"""Ansible module: run NGINX from the unit and the configuration that are on disk."""

DOCUMENTATION = r"""
module: nginx_unit
author: The ai-assist contributors
short_description: run NGINX from what is on disk, without refusing a connection
description:
  - Enables the unit and starts it if it does not run. Reloads NGINX if its configuration changed since its
    last start or reload; requests in progress end undisturbed.
  - A host that was installed with release 0.1 has the unit under its earlier name,
    C(ai-assist-front.service), and a rollback restores that. If the unit on disk is not the one that runs,
    NGINX is exchanged. New connections are held meanwhile, for well under a second, and requests in
    progress end in the old process. Its unit file and its logs are removed or renamed.
  - Supports check mode.
options:
  port:
    description: TCP port that NGINX listens on.
    type: int
    required: true
  revision:
    description:
      - Digest of the configuration to run, as returned by C(service_unit). By default the digest in the
        unit file.
      - Check mode needs this, because it writes no file.
    type: str
  restart:
    description: Whether a change of the unit itself restarts NGINX. A rolling update reloads only.
    type: bool
    default: false
  grace_s:
    description: How many seconds a stopped NGINX may take to end its requests.
    type: int
    default: 130
"""

EXAMPLES = r"""
- name: Nginx | Run the configuration on disk
  nginx_unit:
    port: 443

- name: Nginx | Run the stack's configuration
  nginx_unit:
    port: 443
    revision: "{{ nginx_written.revision }}"
    restart: true
"""

RETURN = r"""
changes:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: always
"""

import re
import shutil
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.connection_hold import ConnectionHold, HoldError, backlog
from ansible.module_utils.systemctl import ACTIVE, revision_in, systemctl, unit_state

UNIT = "ai-assist-nginx.service"
# The name until release 0.1.
FORMER = "ai-assist-front.service"
UNITS = Path("/etc/systemd/system")
RUN = Path("/run")
STAMPS = RUN / "ai-assist"
LOGS = Path("/var/log/ai-assist")
LOG = {UNIT: "access.log", FORMER: "front.log"}


def revision_on_disk(unit: str) -> str:
    """Return the digest in a unit's file; empty without one."""
    file = UNITS / unit
    return revision_in(file.read_text()) if file.is_file() else ""


def rotated(log: str) -> list[Path]:
    """Return a log and its rotated and compressed copies."""
    return sorted(path for path in LOGS.glob(f"{log}*") if re.fullmatch(rf"{log}(\.\d+(\.gz)?)?", path.name))


class Nginx:
    """NGINX on this host; ``changes`` collects what was done or would be done."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.port = module, module.params["port"]
        self.changes: list[str] = []
        # After a rollback to release 0.1 only the former unit's file is left.
        former_alone = (UNITS / FORMER).is_file() and not (UNITS / UNIT).is_file()
        self.unit, self.other = (
            (FORMER, UNIT) if former_alone and not module.params["revision"] else (UNIT, FORMER)
        )

    def converge(self) -> None:
        """Bring NGINX to what is on disk."""
        desired = self.module.params["revision"] or revision_on_disk(self.unit)
        stamp = STAMPS / self.unit
        started = stamp.read_text().strip() if stamp.is_file() else ""
        if self.active(self.other):
            self.do(f"replace {self.other} by {self.unit}", self.take_over)
        elif not self.active(self.unit):
            self.do(f"start {self.unit}", lambda: self.systemctl("restart", self.unit))
        elif started != desired:
            same_unit = started.split(".")[0] == desired.split(".")[0]
            verb = "restart" if self.module.params["restart"] and not same_unit else "reload"
            self.do(f"{verb} {self.unit}", lambda: self.systemctl(verb, self.unit))
        if unit_state(self.module, self.unit)["UnitFileState"] != "enabled":
            self.do(f"enable {self.unit}", lambda: self.systemctl("enable", self.unit))
        self.remove_other()

    def take_over(self) -> None:
        """Stop the other unit's NGINX and start this one's while new connections are held."""
        run = self.module.run_command
        process = unit_state(self.module, self.other)["MainPID"]
        with ConnectionHold(run, self.port) as hold:
            hold.wait(lambda: not backlog(run, self.port), "accepting the connections that wait")
            self.rename_logs()
            # QUIT closes the listening sockets at once and lets requests in progress end. By signal and not
            # by `systemctl stop`: a restored version has no file of this unit any more, and so no
            # KillSignal.
            self.systemctl("kill", "--signal=QUIT", "--kill-whom=main", self.other)
            hold.wait(lambda: backlog(run, self.port) is None, f"closing port {self.port}")
            self.systemctl("start", self.unit)
            hold.wait(lambda: backlog(run, self.port) is not None, f"listening on port {self.port}")
        end = time.monotonic() + self.module.params["grace_s"]
        while Path(f"/proc/{process}").exists() and time.monotonic() < end:
            time.sleep(0.1)
        if self.active(self.other):  # systemd may have unloaded the unit already
            self.systemctl("stop", self.other)

    def rename_logs(self) -> None:
        """Give the logs the name under which they are rotated and removed from now on."""
        for path in rotated(LOG[self.other]):
            renamed = path.with_name(path.name.replace(LOG[self.other], LOG[self.unit], 1))
            if not renamed.exists():
                path.rename(renamed)

    def remove_other(self) -> None:
        """Remove the other unit's file, its place in the boot sequence, its stamp and its run-time folder."""
        link = UNITS / "multi-user.target.wants" / self.other
        paths = [link, UNITS / self.other, STAMPS / self.other]
        left = [path for path in paths if path.is_symlink() or path.exists()]
        folder = RUN / self.other.removesuffix(".service")
        if (left or folder.exists()) and not self.module.check_mode:
            for path in left:
                path.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            self.systemctl("daemon-reload")
        self.changes += [f"remove {path}" for path in left]

    def active(self, unit: str) -> bool:
        """Return whether a unit runs."""
        return unit_state(self.module, unit)["ActiveState"] in ACTIVE

    def do(self, change: str, action: Any) -> None:  # noqa: ANN401  -- a callable; its result is ignored
        """Record a change and make it, unless in check mode."""
        self.changes.append(change)
        if not self.module.check_mode:
            action()

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl; fail with the last lines of the unit's journal."""
        systemctl(self.module, self.changes, *arguments)


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "port": {"type": "int", "required": True},
        "revision": {"type": "str"},
        "restart": {"type": "bool", "default": False},
        "grace_s": {"type": "int", "default": 130},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    nginx = Nginx(module)
    try:
        nginx.converge()
    except HoldError as error:
        module.fail_json(msg=f"NGINX could not be exchanged: {error}", changes=nginx.changes)
    module.exit_json(changed=bool(nginx.changes), changes=nginx.changes)


if __name__ == "__main__":
    main()

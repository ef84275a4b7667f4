#!/usr/bin/python
"""Ansible module: supervisord runs, and its programs are those of its configuration."""

import http.client
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils import private_files
from ansible.module_utils.basic import AnsibleModule
from supervisor.xmlrpc import SupervisorTransport

DOCUMENTATION = """
module: supervisor_programs
author: The ai-assist contributors
short_description: run what supervisord's configuration says
description:
  - Writes the configuration and makes the folders first, each for the owner alone.
  - Starts supervisord where it does not run. Else restarts the programs whose configuration differs from what
    they were started with, and starts those that stopped. What is as it should be is left alone.
  - What supervisord itself reports is compared, so a run that was cut off is made good by the next.
  - Supports check mode.
options:
  supervisord: {description: Path of supervisord., type: path, required: true}
  config: {description: Where its configuration goes., type: path, required: true}
  content: {description: "Its configuration, such as from the C(template) lookup.", type: str, required: true}
  log: {description: Folder of the logs., type: path, required: true}
  socket: {description: Where it listens., type: path, required: true}
  environment: {description: All of the environment that it starts with., type: dict, required: true}
"""

RETURN = """
changes:
  description: What was (or in check mode would be) done.
  type: list
  elements: str
  returned: always
"""

_UP = {"RUNNING", "STARTING"}
_START_S = 15.0
FAILURES = (OSError, xmlrpc.client.Error, http.client.HTTPException)


class Programs:
    """The programs of one supervisord; ``changes`` collects what was done or would be."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changes: list[str] = []

    @property
    def rpc(self) -> Any:  # noqa: ANN401  -- a proxy has whatever methods the server has
        """Supervisord's remote procedures, over a new connection: one that failed can't be used again."""
        transport = SupervisorTransport(None, None, f"unix://{self.module.params['socket']}")
        return xmlrpc.client.ServerProxy("http://supervisor", transport).supervisor

    @property
    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self.rpc.getPID()
        except FAILURES:
            return False
        return True

    def configure(self) -> None:
        """Write the configuration. Programs are compared with it later, so a cut in between is harmless."""
        config, write = Path(self.module.params["config"]), not self.module.check_mode
        made = [
            private_files.folder(path, write=write)
            for path in (config.parent, Path(self.module.params["log"]))
        ]
        if private_files.file(config, self.module.params["content"], write=write) or any(made):
            self.changes.append("write the configuration")

    def start(self) -> None:
        """Start supervisord, which starts every program, and wait until it answers."""
        self.changes.append("start supervisord")
        if self.module.check_mode:
            return
        parameters = self.module.params
        command = [parameters["supervisord"], "--configuration", parameters["config"]]
        # It becomes a daemon; a pipe to it would stay open for as long as it lives.
        log = Path(parameters["config"]).with_suffix(".start.log")
        with log.open("w", encoding="utf-8") as output:
            started = subprocess.run(
                command, env=parameters["environment"], stdout=output, stderr=output, check=False
            )
        end = time.monotonic() + _START_S
        while not self.alive:
            if started.returncode or time.monotonic() > end:
                self.module.fail_json(
                    msg=f"supervisord does not start: {log.read_text(encoding='utf-8').strip()}"
                )
            time.sleep(0.05)

    def update(self) -> None:
        """Bring the programs to what the configuration says now."""
        added, changed, removed = self.rpc.reloadConfig()[0]
        for name in [*changed, *removed]:
            self.do(f"stop {name}", partial(self.replace, name))
        for name in [*added, *changed]:
            self.do(f"start {name}", partial(self.rpc.addProcessGroup, name))
        fresh = {*added, *changed, *removed}
        for program in self.rpc.getAllProcessInfo():
            if program["group"] not in fresh and program["statename"] not in _UP:
                name, wait = program["name"], False
                self.do(f"start {name}", partial(self.rpc.startProcess, name, wait))

    def replace(self, name: str) -> None:
        """Stop a program and forget its old configuration."""
        self.rpc.stopProcessGroup(name)
        self.rpc.removeProcessGroup(name)

    def do(self, change: str, action: Callable[[], object]) -> None:
        """Note a change and make it, unless only asked what would change."""
        self.changes.append(change)
        if not self.module.check_mode:
            action()


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        name: {"type": "path", "required": True} for name in ("supervisord", "config", "socket", "log")
    }
    options["content"] = {"type": "str", "required": True}
    options["environment"] = {"type": "dict", "required": True}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    programs = Programs(module)
    try:
        programs.configure()
        programs.update() if programs.alive else programs.start()
    except FAILURES as error:
        module.fail_json(msg=f"supervisord refused after {programs.changes}: {error}")
    module.exit_json(changed=bool(programs.changes), changes=programs.changes)


if __name__ == "__main__":
    main()

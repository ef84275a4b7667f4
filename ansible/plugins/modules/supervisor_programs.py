#!/usr/bin/python
"""Ansible module: run supervisord with the programs of its configuration."""

DOCUMENTATION = r"""
module: supervisor_programs
author: The ai-assist contributors
short_description: run the programs of supervisord's configuration
description:
  - Writes the configuration and creates its folders, each readable by the owner alone.
  - Starts supervisord if it does not run. Otherwise restarts the programs whose configuration differs from
    the one they were started with, and starts stopped programs. Other programs keep running.
  - Compares what supervisord itself reports, so that the next run completes an interrupted one.
  - Supports check mode.
options:
  supervisord:
    description: Path of supervisord.
    type: path
    required: true
  config:
    description: Path of the configuration.
    type: path
    required: true
  content:
    description: Text of the configuration, such as from the C(template) lookup.
    type: str
    required: true
  log:
    description: The folder of the logs.
    type: path
    required: true
  socket:
    description: Path of supervisord's socket.
    type: path
    required: true
  environment:
    description: The complete environment of supervisord.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Supervisor | Run the programs
  supervisor_programs:
    supervisord: /srv/ai-assist/.run/venvs/control/bin/supervisord
    config: /srv/ai-assist/.run/etc/supervisord.conf
    content: "{{ lookup('ansible.builtin.template', 'supervisord.conf.j2') }}"
    socket: /srv/ai-assist/.run/etc/supervisor.sock
    log: /srv/ai-assist/.run/log
    environment: {PATH: "/usr/bin:/bin"}
"""

RETURN = r"""
changes:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: always
"""

import http.client
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.managed_files import FileError, Files, entry
from supervisor.xmlrpc import SupervisorTransport

from assist.processes import update

_START_S = 15.0
FAILURES = (OSError, xmlrpc.client.Error, http.client.HTTPException)


class Programs:
    """The programs of one supervisord; ``changes`` collects what was done or would be done."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changes: list[str] = []

    @property
    def rpc(self) -> Any:  # noqa: ANN401  -- a proxy has whatever methods the server has
        """Supervisord's remote procedures, over a new connection: a failed one cannot be used again."""
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
        """Write the configuration. Programs are compared with it later, so an interruption is harmless."""
        params, files = self.module.params, Files(not self.module.check_mode, self.module.run_command)
        for folder in (str(Path(params["config"]).parent), params["log"]):
            files.ensure(entry(path=folder, state="directory", mode="0700"))
        files.ensure(entry(path=params["config"], secret=params["content"], mode="0600"))
        if files.changes:
            self.changes.append("write the configuration")

    def start(self) -> None:
        """Start supervisord, which starts every program, and wait until it answers."""
        self.changes.append("start supervisord")
        if self.module.check_mode:
            return
        parameters = self.module.params
        command = [parameters["supervisord"], "--configuration", parameters["config"]]
        # The daemon would keep a pipe open for as long as it runs, so its output is written to a file.
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

    def do(self, change: str, action: Callable[[], object]) -> None:
        """Record a change and make it, unless in check mode."""
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
        update(programs.rpc, programs.do) if programs.alive else programs.start()
    except FileError as error:
        module.fail_json(msg=str(error))
    except FAILURES as error:
        module.fail_json(msg=f"supervisord failed after {programs.changes}: {error}")
    module.exit_json(changed=bool(programs.changes), changes=programs.changes)


if __name__ == "__main__":
    main()

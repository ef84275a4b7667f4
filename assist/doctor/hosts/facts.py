"""What was read of the hosts, and the commands that change them."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assist.doctor.logs import iso
from assist.findings import Finding, ok
from assist.paths import Paths

Facts = dict[str, Any]


@dataclass(frozen=True)
class Commands:
    """Commands for the inventory's hosts, as a user types them in the clone."""

    layout: Paths
    inventories: tuple[str, ...]
    stack: Path

    def on(self, host: str, command: str) -> str:
        """Return the command that runs a shell command as root on ``host``."""
        return f"{self._program('ansible', host)} -b -m shell -a {shlex.quote(command)}"

    def script(self, host: str, script: str) -> str:
        """Return the command that runs a script of this clone as root on ``host``."""
        return f"{self._program('ansible', host)} -b -m script -a {shlex.quote(script)}"

    def ping(self, host: str) -> str:
        """Return the command that logs in to ``host`` and does nothing."""
        return f"{self._program('ansible', host)} -m ping"

    def playbook(self, name: str) -> str:
        """Return the command that runs one of ``ansible/``'s playbooks for all hosts."""
        return (
            f"{self._program('ansible-playbook')} ansible/{name} -e service_stack={shlex.quote(self._stack)}"
        )

    @property
    def _stack(self) -> str:
        named = self.layout.source / "stacks" / self.stack.name == self.stack
        return self.stack.stem if named else str(self.stack)

    def _program(self, name: str, *words: str) -> str:
        program = Path(sys.executable).with_name(name)
        if program.is_relative_to(self.layout.source):
            program = program.relative_to(self.layout.source)
        inventories = [word for one in self.inventories for word in ("-i", one)]
        return shlex.join([str(program), *inventories, *words])


@dataclass(frozen=True)
class Host:
    """One host: its resolved stack, the collector's facts, or why there are none.

    ``asked`` is when it was read by this machine's clock, in seconds since the epoch.
    """

    name: str
    service: Facts
    facts: Facts
    message: str
    unreachable: bool
    asked: tuple[float, float]

    @classmethod
    def of(cls, name: str, document: Facts, asked: tuple[float, float]) -> "Host":
        """Take apart what ``ansible/plays/doctor.yml`` wrote: root's answer goes before the login user's."""
        login, root = document["login"], document["root"]
        facts = _parsed(root) or _parsed(login)
        failed = login if not _parsed(login) or root.get("skipped") else root
        message = str(failed.get("msg") or failed.get("stderr") or failed.get("module_stderr") or "")[-500:]
        unreachable = bool(login.get("unreachable"))
        return cls(name, document["service"], facts, message.strip(), unreachable, asked)

    @property
    def units(self) -> dict[str, Facts]:
        """The state of each unit that belongs to this host."""
        found: dict[str, Facts] = self.facts["units"]
        return found

    def active(self, unit: str) -> bool:
        """Return whether a unit of this host runs."""
        return self.units.get(unit, {}).get("ActiveState") == "active"

    def ok(self, check: str, cause: str) -> Finding:
        """Return that a check of this host passed."""
        return ok(check, cause, self.name)

    def wrong(
        self, check: str, fault: str, cause: str, remedy: str, *, where: str = "", since: float | str = "",
        evidence: str = "", towards: str = "",
    ) -> Finding:  # fmt: skip
        """Return a problem of this host. ``since``: seconds since the epoch, or ISO 8601."""
        began = since if isinstance(since, str) else iso(since)
        return Finding(
            check, "problem", cause, remedy, fault=fault, host=self.name, where=where, since=began,
            evidence=evidence[:300], towards=towards,
        )  # fmt: skip


def _parsed(answer: Mapping[str, Any]) -> Facts:
    try:
        found: Facts = json.loads(answer.get("stdout") or "{}")
    except ValueError:
        return {}
    return found


@dataclass(frozen=True)
class Site:
    """All hosts that were read, and the commands for them."""

    hosts: Mapping[str, Host]
    commands: Commands

    def listening(self, address: str, port: int) -> tuple[Host, bool] | None:
        """Return the host of ``address``, and whether it listens on ``port``; None for another's address."""
        for host in self.hosts.values():
            own = host.service["monitoring"]["listen"].rpartition(":")[0].strip("[]")
            if address == own:
                rows = host.facts.get("listening", [])
                heard = any(row[1] == port and row[0] in {address, "0.0.0.0", "*", "::"} for row in rows)  # noqa: S104
                return host, heard
        return None

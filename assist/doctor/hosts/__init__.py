"""The hosts of an inventory, read over its SSH by ``ansible/plays/doctor.yml``, all at the same time."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assist.doctor.hosts import answers, files, network, units
from assist.doctor.hosts.facts import Commands, Host, Site
from assist.findings import Finding, unknown
from assist.hosts.release import release_id
from assist.paths import Paths
from assist.playbook import UTF8

_CHECKS = (units.check, network.check, files.check, answers.check)
_SAMPLES = {"local", "lab", "example"}
_LIMIT_S = 900.0


class InventoryError(ValueError):
    """No inventory, or several; the message has the remedy."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of ``inventories`` that serve ``stack``, or ``only`` some of them."""

    stack: Path
    layout: Paths
    only: tuple[str, ...]
    inventories: tuple[str, ...]
    quick: bool = False

    @classmethod
    def of(
        cls, stack: Path, layout: Paths, only: Sequence[str], inventories: Sequence[str], *, quick: bool
    ) -> "Hosts":
        """Return the target; without an inventory, the clone's only one is meant. Raises InventoryError."""
        if not inventories:
            folder = layout.source / "ansible/inventories"
            found = sorted(path for path in folder.iterdir() if path.name not in _SAMPLES)
            if len(found) != 1:
                names = ", ".join(path.name for path in found) or "none"
                raise InventoryError(f"{folder} has these inventories: {names}; name one: --inventory PATH")
            inventories = [str(found[0])]
        return cls(stack, layout, tuple(only), tuple(inventories), quick)

    def findings(self) -> list[Finding]:
        """Read every host, changing nothing, and check what was read."""
        with tempfile.TemporaryDirectory(prefix="assist-doctor-") as work:
            began = time.time()
            results = Path(work) / "hosts"
            results.mkdir()
            done = self._read(results)
            hosts = {
                file.stem: Host.of(file.stem, json.loads(file.read_text("utf-8")), (began, time.time()))
                for file in sorted(results.glob("*.json"))
            }
        if not hosts:
            text = (done.stdout + done.stderr).strip()[-1500:]
            return [
                unknown("hosts", f"the hosts could not be read: {text}", "Correct that, then run it again")
            ]
        site = Site(hosts, Commands(self.layout, self.inventories, self.stack))
        return [one for host in hosts.values() for one in _of(site, host)]

    def _read(self, work: Path) -> "subprocess.CompletedProcess[str]":
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        collector = work.parent / "collector.py"
        collector.write_text(program_text(), "utf-8")
        variables = {
            "service_stack": str(self.stack), "doctor_release": release_id(self.layout.source),
            "doctor_collector": str(collector), "doctor_results": str(work), "doctor_quick": self.quick,
        }  # fmt: skip
        inventories = [word for one in self.inventories for word in ("-i", one)]
        limit = ["--limit", ",".join(self.only)] if self.only else []
        command = [program, *inventories, "ansible/plays/doctor.yml", "-e", json.dumps(variables), *limit]
        environment = {
            **os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORKS": "50", "ANSIBLE_TIMEOUT": "10",
            "ASSIST_HOME": str(work.parent), **UTF8,
        }  # fmt: skip
        return subprocess.run(
            command, cwd=self.layout.source, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=_LIMIT_S,
        )  # fmt: skip


def program_text() -> str:
    """Return the collector as one program, which imports nothing of this project."""
    asking, collector = (
        Path(__file__).with_name(name).read_text("utf-8") for name in ("asking.py", "collector.py")
    )
    return asking + collector.replace("from assist.doctor.hosts.asking import Asking, Facts\n", "")


def _of(site: Site, host: Host) -> list[Finding]:
    if host.unreachable:
        return [_unreachable(site, host)]
    if not host.facts:
        cause = f"{host.name} was reached and could not be read: {host.message}"
        return [Finding("read", "unknown", cause, site.commands.ping(host.name), host=host.name)]
    found = [one for check in _CHECKS for one in check(site, host)]
    if host.facts["denied"]:
        what = ", ".join(host.facts["denied"][:3])
        cause = f"some facts need root, which the login user may not become: {what}"
        remedy = f"{site.commands.ping(host.name)} -b  # it says why"
        found.append(Finding("root", "unknown", cause, remedy, host=host.name, evidence=host.message))
    return found


def _unreachable(site: Site, host: Host) -> Finding:
    others = [name for name, other in site.hosts.items() if not other.unreachable]
    cause = f"{host.name} cannot be reached by SSH" + (f"; {', '.join(others)} can" if others else "")
    remedy = f"{site.commands.ping(host.name)}  # start the host, or remove it from the inventory"
    return Finding("ssh", "problem", cause, remedy, fault="host-unreachable", host=host.name,
                   evidence=host.message)  # fmt: skip

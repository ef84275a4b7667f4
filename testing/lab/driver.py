"""What tests and benchmarks do with a lab's hosts: boot them, run commands and playbooks on them, ask from their LAN."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from testing import needs
from testing.lab import machines, network
from testing.lab.processes import LabError
from testing.lab.record import LabFolder
from testing.lab.settings import LabSettings
from testing.tools.find import REMEDY

ROOT = Path(__file__).resolve().parents[2]
# Not where labs made by hand are: what killed tests left there is swept away.
STATE = Path("/var/tmp/ai-assist-tests")
# By program, the Debian package that has it.
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
INVENTORY = ROOT / "ansible/inventories/lab"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def missing() -> str | None:
    """Return why no host can be booted here, with the remedy, or ``None``."""
    if os.geteuid():
        return needs.reason("root alone can boot hosts", needs.AS_ROOT)
    absent = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if absent:
        return f"not found: {', '.join(absent)}; {REMEDY}"
    return None


@dataclass(frozen=True)
class Played:
    """How a playbook went. ``changed`` names the tasks that changed something, by host."""

    code: int
    output: str
    hosts: dict[str, dict[str, int]]
    changed: dict[str, set[str]] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """How many changes were made (or predicted) on all hosts together."""
        return sum(host["changed"] for host in self.hosts.values())

    def succeed(self) -> "Played":
        """Return self, or fail with what Ansible said last."""
        assert self.code == 0, self.output[-6000:]
        return self


class Lab:
    """Hosts of one test process; the name holds its pid, so that labs of two processes never meet."""

    def __init__(
        self, suffix: str = "", *, name: str = "", suite: str = "bookworm", offline: bool = False
    ) -> None:
        self.name = name or f"t{_short(os.getpid())}{suffix}"
        self.offline = offline
        settings = replace(LabSettings.from_environment(), state=STATE, suite=suite)
        self.files = LabFolder(self.name, settings)
        self.folder = self.files.root
        self.environment = os.environ | settings.variables()

    def lab(self, *arguments: str, timeout: float = 900, check: bool = True) -> str:
        """Run the lab's own command line and return what it prints."""
        command = [sys.executable, "-m", "testing.lab", "--name", self.name, *arguments]
        # A process of its own, as it leaves children behind: the hosts.
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *hosts: str) -> None:
        """Create and boot hosts, each ``NAME[:groups=a,b][:gpus=N][:layer=NAME]``."""
        self.lab("up", *hosts, *(["--net", "offline"] if self.offline else []))

    def destroy(self) -> None:
        """Leave nothing behind; harmless where there is nothing."""
        self.lab("destroy", check=False)

    def has_layer(self, layer: str) -> bool:
        """Return whether hosts can start from ``layer``."""
        return self.files.settings.layer(layer).is_dir()

    def run(self, host: str, command: str, *, check: bool = True, timeout: float = 300) -> str:
        """Run a shell command straight in a host, without SSH, and return what it prints on stdout."""
        done = self.try_run(host, command, timeout=timeout)
        assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def try_run(self, host: str, command: str, *, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a shell command in a host and return how it went; a host that is down is exit status 1."""
        (found,) = self.files.load().chosen([host])
        try:
            argv = machines.enter_argv(found, "bash", "-c", command)
        except LabError as error:
            return subprocess.CompletedProcess([command], 1, "", str(error))
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)

    def in_network(self, *command: str) -> list[str]:
        """Return a command line that runs a program of this machine in the lab's network, as a client on the LAN."""
        return network.inside(self.files, *command)

    def network(
        self, *command: str, stdin: str = "", timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine inside the lab's network, at 10.77.0.1: a client on the LAN."""
        return subprocess.run(
            self.in_network(*command), env=self.environment, input=stdin, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip

    def boot_id(self, host: str) -> str:
        """Return what identifies a host's boot, or nothing where it is down."""
        return self.try_run(host, "cat /proc/sys/kernel/random/boot_id").stdout.strip()

    def until_up(self, host: str, old_boot: str, timeout: float = 300) -> None:
        """Wait until a host that reboots has booted again and started everything."""
        end = time.monotonic() + timeout
        # Both by one command: a host that shuts down unmounts its own boot_id, and the machine's comes to light.
        command = "systemctl is-system-running; cat /proc/sys/kernel/random/boot_id"
        while True:
            state, _, boot = self.try_run(host, command).stdout.strip().partition("\n")
            if state in {"running", "degraded"} and boot not in {"", old_boot.strip()}:
                return
            assert time.monotonic() < end, f"{host} has not booted again after {timeout} s"
            time.sleep(0.5)

    def address(self, host: str) -> str:
        """Return a host's address on the lab's network."""
        return self.files.load().hosts[host].ip

    @property
    def ssh_config(self) -> Path:
        """What `ssh -F` (and testinfra's ssh_config) needs to reach the hosts by name."""
        return self.files.ssh_config

    @property
    def inventory(self) -> Path:
        """The inventory of the hosts and their groups."""
        return self.files.inventory

    @property
    def home(self) -> Path:
        """Where the playbooks keep this lab's keys and its client's address, on the control node."""
        return self.folder / "assist"

    def play(
        self,
        playbook: str,
        *options: str,
        variables: Mapping[str, object] | None = None,
        environment: dict[str, str] | None = None,
        timeout: float = 1200,
    ) -> Played:
        """Run ``ansible/<playbook>`` (or a path) on the lab's hosts; ``variables`` go before all others."""
        given = {"service_home": str(self.home)} | dict(variables or {})
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        inventories = ["-i", str(INVENTORY), "-i", str(self.inventory)]
        command = [program, *inventories, str(ROOT / "ansible" / playbook), "-e", json.dumps(given), *options]
        settings = os.environ | {
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            command, cwd=ROOT, env=settings | (environment or {}), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        return Played(done.returncode, output, recap(output), _changed(output))


def sweep() -> None:
    """Destroy the labs of test processes that died without doing so."""
    for folder in STATE.glob("t*/") if STATE.is_dir() else ():
        match = re.fullmatch(r"t([0-9a-z]+?)[A-Z]?", folder.name)
        if match and not Path(f"/proc/{int(match[1], 36)}").exists():
            Lab(name=folder.name).destroy()


def _short(number: int) -> str:
    """Write a number with 36 digits."""
    text = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def recap(output: str) -> dict[str, dict[str, int]]:
    """Read the counts of PLAY RECAP, by host."""
    rows = re.findall(r"^(\S+)\s+: (ok=\d+.*)$", output, re.MULTILINE)
    return {
        host: {name: int(count) for name, count in (pair.split("=") for pair in counts.split())}
        for host, counts in rows
    }


def _changed(output: str) -> dict[str, set[str]]:
    """Read the names of the tasks that changed something, by host."""
    found: dict[str, set[str]] = {}
    task = ""
    for line in output.splitlines():
        if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line):
            task = match[1]
        elif match := re.match(r"changed: \[([^\]\s]+)", line):
            found.setdefault(match[1], set()).add(task)
    return found

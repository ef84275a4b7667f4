"""Throw-away Debian hosts, booted with systemd on a closed network, and playbooks run on them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from stackfile.catalogue import ROOT

SHARED = Path(os.environ.get("ASSIST_SHARED", ROOT.parent / "shared"))
PROGRAM = SHARED / "lab/lab.py"
# One folder for all runs: the image and the packages are fetched once. A run's own hosts are elsewhere.
CACHE = Path.home() / ".cache/lab"
# Short, because ssh's sockets lie in it and a socket's path has room for 108 characters.
STATE = Path("/var/tmp/assist-lab")
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "unshare": "util-linux",
}
INVENTORY = ROOT / "ansible/inventories/lab"


def missing() -> str | None:
    """Return why no lab can be made here, with the remedy, or ``None``."""
    if not PROGRAM.is_file():
        return f"no lab/lab.py under {SHARED}; set ASSIST_SHARED to the folder that has it"
    if os.geteuid():
        return "hosts are booted by root only"
    absent = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"apt-get install --no-install-recommends {' '.join(absent)}" if absent else None


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

    def __init__(self, suffix: str = "", *, suite: str = "bookworm", offline: bool = False) -> None:
        self.name = f"t{_short(os.getpid())}{suffix}"
        self.folder = STATE / self.name
        self.offline = offline
        self.environment = os.environ | {
            "LAB_CACHE": str(CACHE),
            "LAB_STATE": str(STATE),
            "LAB_SUITE": suite,
        }

    def lab(self, *arguments: str, timeout: float = 600, check: bool = True) -> str:
        """Run the lab's own command line and return what it prints."""
        command = [sys.executable, str(PROGRAM), "--name", self.name, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *hosts: str) -> None:
        """Create and boot hosts, each ``NAME[:groups=a,b][:gpus=N][:layer=NAME]``."""
        self.lab("up", *hosts, *(["--net", "offline"] if self.offline else []))

    def destroy(self) -> None:
        """Leave nothing behind; harmless where there is nothing."""
        self.lab("destroy", check=False)

    def has_layer(self, layer: str) -> bool:
        """Say whether hosts can start from ``layer``."""
        return (CACHE / "layers" / layer).is_dir()

    def run(self, host: str, command: str, *, check: bool = True, timeout: float = 120) -> str:
        """Run a shell command straight in a host, without SSH, and return what it prints on stdout."""
        done = self.try_run(host, command, timeout=timeout)
        assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def try_run(self, host: str, command: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command in a host and return how it went."""
        argv = [sys.executable, str(PROGRAM), "--name", self.name, "exec", host, "bash", "-c", command]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def network(
        self, *command: str, stdin: str = "", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine inside the lab's network, at 10.77.0.1: a client on the LAN."""
        argv = [sys.executable, str(PROGRAM), "--name", self.name, "run", *command]
        return subprocess.run(
            argv,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def until_up(self, host: str, old_boot: str, timeout: float = 180) -> None:
        """Wait until a host that was told to reboot has booted again and started everything."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            booted = self.try_run(host, "cat /proc/sys/kernel/random/boot_id")
            if booted.returncode == 0 and booted.stdout != old_boot:
                self.try_run(host, "systemctl is-system-running --wait", timeout=timeout)
                return
            time.sleep(0.5)
        raise AssertionError(f"{host} is not back after {timeout} s")

    def address(self, host: str) -> str:
        """Return a host's address on the lab's network."""
        return str(json.loads((self.folder / "lab.json").read_text())["hosts"][host]["ip"])

    @property
    def ssh_config(self) -> Path:
        """What `ssh -F` (and testinfra's ssh_config) needs to reach the hosts by name."""
        return self.folder / "ssh_config"

    @property
    def home(self) -> Path:
        """Where the playbooks keep this lab's keys and its client's address, on the control node."""
        return self.folder / "assist"

    def play(
        self,
        playbook: str,
        *options: str,
        variables: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
        timeout: float = 900,
    ) -> Played:
        """Run ``ansible/<playbook>`` (or a path) on the lab's hosts; ``variables`` go before all others."""
        told: dict[str, object] = {"service_home": str(self.home)} | (variables or {})
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        inventories = ["-i", str(INVENTORY), "-i", str(self.folder / "inventory.yml")]
        command = [program, *inventories, str(ROOT / "ansible" / playbook), "-e", json.dumps(told), *options]
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
        if match and not psutil.pid_exists(int(match[1], 36)):
            lab = Lab()
            lab.name = folder.name
            lab.destroy()


def _short(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text


def recap(output: str) -> dict[str, dict[str, int]]:
    """Read the counts of PLAY RECAP, by host."""
    rows = re.findall(r"^(\S+)\s+: (ok=\d+.*)$", output, re.MULTILINE)
    return {
        host: {name: int(count) for name, count in (pair.split("=") for pair in counts.split())}
        for host, counts in rows
    }


def _changed(output: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    task = ""
    for line in output.splitlines():
        if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line):
            task = match[1]
        elif match := re.match(r"changed: \[([^\]\s]+)", line):
            found.setdefault(match[1], set()).add(task)
    return found

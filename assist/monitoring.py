"""Debian's Prometheus on this machine: it scrapes the running service and evaluates the rules, bounded."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from assist.addresses import local_url
from assist.atomic_write import write_text
from assist.deployment import Deployment
from assist.paths import Paths
from assist.processes import end
from monitoring import rules, scrape

PACKAGE = "prometheus"
INSTALL = "sudo apt-get install --no-install-recommends prometheus && sudo systemctl disable --now prometheus"
_HOST = "127.0.0.1"
_START_S = 120.0
_STOP_S = 30.0


class MonitoringError(Exception):
    """Prometheus cannot be started; the message names the remedy."""


@dataclass(frozen=True)
class Prometheus:
    """The Prometheus of one clone."""

    layout: Paths

    @property
    def folder(self) -> Path:
        """Its configuration and its series."""
        return self.layout.home / "prometheus"

    @property
    def config(self) -> Path:
        """The file that it reads, which also identifies its process."""
        return self.folder / "prometheus.yml"

    @property
    def log(self) -> Path:
        """What it wrote since its last start."""
        return self.layout.log / "prometheus.log"

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run with this clone's configuration."""
        flag = f"--config.file={self.config}"
        return [each for each in psutil.process_iter() if flag in _arguments(each)]

    def write(self, deployment: Deployment) -> None:
        """Write the scrape file and the rules of the running service."""
        stack = deployment.stack
        self.folder.mkdir(parents=True, exist_ok=True)
        rule_file = self.folder / "rules.yml"
        write_text(rule_file, rules.to_yaml(rules.rule_file(stack)), 0o600)
        targets = [
            *scrape.local_targets(stack),
            scrape.Target("prometheus", f"{_HOST}:{stack.monitoring.prometheus_port}"),
        ]
        configuration = scrape.configuration(stack, targets, [str(rule_file)])
        write_text(self.config, rules.to_yaml(configuration), 0o600)

    def start(self, deployment: Deployment) -> str:
        """Start or restart it, wait until it is ready, and return its URL. Raises ``MonitoringError``."""
        program = shutil.which(PACKAGE)
        if program is None:
            raise MonitoringError(f"Prometheus is not installed. Install it: {INSTALL}")
        self.stop()
        self.write(deployment)
        monitoring = deployment.stack.monitoring
        url = local_url(_HOST, monitoring.prometheus_port)
        argv = [
            program,
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'series'}",
            f"--storage.tsdb.retention.time={monitoring.retention_days}d",
            f"--storage.tsdb.retention.size={monitoring.retention_mib}MB",
            f"--web.listen-address={_HOST}:{monitoring.prometheus_port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        self.layout.log.mkdir(parents=True, exist_ok=True)
        self._wait_until_ready(self._spawn(argv), url)
        return url

    def _spawn(self, argv: list[str]) -> int:
        """Start it in a session of its own, in which it outlives this command; return its process id."""
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)

    def stop(self) -> bool:
        """Stop it; what it has stored stays. Return whether it ran."""
        running = self.processes()
        end(running, _STOP_S)
        return bool(running)

    def _wait_until_ready(self, pid: int, url: str) -> None:
        end_at = time.monotonic() + _START_S
        while time.monotonic() < end_at and os.waitpid(pid, os.WNOHANG) == (0, 0):
            try:
                if httpx.get(f"{url}/-/ready", trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.stop()
        last = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["It wrote nothing."]
        raise MonitoringError(
            f"Prometheus did not start: {last[0]} Where its port is taken, set monitoring: "
            "{prometheus_port: ...} in the stack, then run make up and make monitoring."
        )


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

"""``assist monitoring``: a real Prometheus on this machine, from start to removal."""

import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from assist.cli import app
from assist.deployment import Deployment, Overrides, resolve
from assist.monitoring import MonitoringError, Prometheus
from assist.paths import Paths
from stackfile.monitoring import MonitoringSection
from testing.needs import program
from testing.ports import free_ports
from testing.until import until


def deployment(home: Path, port: int) -> Deployment:
    """Return the stack ``tiny`` with everything in ``home`` and Prometheus at ``port``."""
    found = resolve("tiny", Paths(home=home), Overrides())
    section = MonitoringSection(prometheus_port=port, retention_days=3, retention_mib=64)
    stack = found.stack.model_copy(update={"monitoring": section})
    return Deployment(found.stack_file, stack, found.layout)


def scraped(url: str) -> set[tuple[str, str]]:
    """Return job and stack of every target; Prometheus takes seconds to know them."""
    targets = httpx.get(f"{url}/api/v1/targets", trust_env=False).json()["data"]["activeTargets"]
    return {(each["labels"]["job"], each["labels"]["stack"]) for each in targets}


def test_prometheus_starts_scrapes_restarts_and_leaves_nothing_running(tmp_path):
    program("prometheus", "promtool")
    chosen = deployment(tmp_path, free_ports(1)[0])
    prometheus = Prometheus(chosen.layout)
    try:
        url = prometheus.start(chosen)
        flags = httpx.get(f"{url}/api/v1/status/flags", trust_env=False).json()["data"]
        assert flags["storage.tsdb.retention.time"] == "3d"
        assert flags["storage.tsdb.retention.size"] == "64MiB"
        assert flags["web.listen-address"].startswith("127.0.0.1:")
        wanted = {("gateway", "tiny"), ("triton", "tiny"), ("prometheus", "tiny")}
        until(lambda: scraped(url) == wanted, evidence=lambda: scraped(url))
        rules = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        assert {group["name"] for group in rules} == {"tiny-objectives", "tiny-causes"}
        checked = subprocess.run(
            ["promtool", "check", "config", prometheus.config], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        before = {process.pid for process in prometheus.processes()}
        prometheus.start(chosen)
        after = {process.pid for process in prometheus.processes()}
        assert len(before) == len(after) == 1
        assert before != after
    finally:
        assert prometheus.stop()
    assert prometheus.processes() == []
    assert not prometheus.stop()


def test_a_taken_port_is_named_with_the_key_that_changes_it(tmp_path):
    program("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as other:
        chosen = deployment(tmp_path, other.getsockname()[1])
        with pytest.raises(MonitoringError, match=r"in use.*prometheus_port"):
            Prometheus(chosen.layout).start(chosen)
    assert Prometheus(chosen.layout).processes() == []


def test_without_prometheus_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    chosen = deployment(tmp_path, 9090)
    with pytest.raises(MonitoringError, match="apt-get install --no-install-recommends prometheus"):
        Prometheus(chosen.layout).start(chosen)
    assert not Prometheus(chosen.layout).config.exists()


def test_the_scrape_file_of_hosts_is_left_to_ansible_with_the_reason():
    done = CliRunner().invoke(app, ["monitoring", "scrape", "--stack", "hosts"])
    assert done.exit_code == 1
    assert "site.yml" in done.output


def test_the_rules_of_a_stack_are_printed_as_a_file():
    done = CliRunner().invoke(app, ["monitoring", "rules", "--stack", "gke-prod"])
    assert done.exit_code == 0
    assert done.output.startswith("groups:")
    assert "NodePoolExhausted" in done.output

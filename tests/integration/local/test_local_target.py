"""The local target as a new user meets it: a fresh clone, `make up`, again, a fault, down, clean."""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from assist import probe
from assist.client_env import client_env
from assist.paths import SOURCE, Paths
from testing import needs
from testing.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(600)]


class Clone:
    """A fresh clone with ports of its own, so that it disturbs nothing on this machine."""

    def __init__(self, root: Path) -> None:
        self.root, self.layout = root, Paths(root, root / ".run")
        gateway, metrics, *triton = free_ports(5)
        self.stack = root / "stacks" / "trial.yaml"
        text = (SOURCE / "stacks/tiny.yaml").read_text().replace("name: tiny", "name: trial")
        gateway_line = "gateway: {host: 127.0.0.1, port: 5000}"
        assert gateway_line in text
        ports = dict(zip(("http_port", "grpc_port", "metrics_port"), triton, strict=True))
        text = text.replace(gateway_line, f"gateway: {{port: {gateway}, metrics_port: {metrics}}}")
        self.stack.write_text(f"{text}triton: {json.dumps(ports)}\n")

    def make(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VIRTUAL_ENV", "ASSIST_"))
        }
        command = ["make", "--no-print-directory", *arguments, "STACK=trial"]
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=400
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def assist(self, *arguments: str) -> tuple[int, dict]:
        program = self.root / ".run/venvs/control/bin/assist"
        environment = {**os.environ, "STACK": "trial"}
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def processes(self) -> list[psutil.Process]:
        mark = f"{self.root}/.run/"
        return [
            p
            for p in psutil.process_iter(["cmdline"])
            if any(mark in part for part in p.info["cmdline"] or [])
        ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    root = tmp_path_factory.mktemp("clone") / "p"
    subprocess.run(["git", "clone", "--quiet", SOURCE, root], check=True)
    clone = Clone(root)
    try:
        yield clone
    finally:
        clone.make("clean", check=False)


@pytest.fixture(scope="module")
def first_run(clone):
    """Everything after this needs a service that is up."""
    return clone.make("up")


def test_a_dry_run_on_a_fresh_clone_says_what_it_would_do_and_leaves_nothing_running(clone):
    clone.make("status", check=False)
    environment = clone.root / ".run/venvs/control"
    subprocess.run(["scripts/bootstrap", environment, "requirements/control.txt"], cwd=clone.root, check=True)
    code, plan = clone.assist("plan", "--json")
    assert code == 0, plan
    assert plan["changed"] > 3
    assert not clone.processes()
    assert not clone.layout.client_env.exists()


def test_up_ends_with_a_completion_the_phases_the_address_and_a_key_that_nobody_else_can_read(
    clone, first_run
):
    told = client_env(clone.layout)
    for phase in ("bootstrap", "environments", "model", "triton", "gateway", "verify", "total"):
        assert phase in first_run.stdout
    assert told["ASSIST_URL"] in first_run.stdout
    assert stat.S_IMODE(clone.layout.client_env.stat().st_mode) == 0o600
    assert "tokens/s)" in first_run.stdout
    written = first_run.stdout.partition(f"{probe.PROMPT}»")[2]
    assert written.partition("«")[0].strip()


def test_the_printed_curl_line_works_when_it_is_pasted(first_run):
    line = next(line for line in first_run.stdout.splitlines() if line.startswith("curl "))
    needs.program("curl")
    answer = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)  # noqa: S602  -- as pasted
    assert json.loads(answer.stdout)["choices"][0]["text"].strip()


def test_a_second_run_changes_nothing_and_restarts_nothing(clone, first_run):
    before = {process.pid for process in clone.processes()}
    code, second = clone.assist("up", "--json")
    assert code == 0, second
    assert (second["status"], second["changed"]) == ("serving", 0)
    assert second["completion"]["text"]
    assert second["completion"]["tokens_per_second"] > 0
    assert {process.pid for process in clone.processes()} == before


def test_the_playbook_alone_does_the_same(clone, first_run):
    playbook = clone.root / ".run/venvs/control/bin/ansible-playbook"
    environment = {**os.environ, "STACK": "trial"}
    done = subprocess.run(
        [playbook, "ansible/site.yml"],
        cwd=clone.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout


def test_the_doctor_finds_all_well_with_a_real_completion(clone, first_run):
    code, document = clone.assist("doctor", "--json")
    assert code == 0, document
    assert "completion" in {finding["id"] for finding in document["findings"]}


def test_a_changed_setting_restarts_what_it_concerns_and_nothing_else(clone, first_run):
    before = pids(clone)
    clone.stack.write_text(clone.stack.read_text().replace("cache:", "limits: {max_queue: 17}\ncache:"))
    code, plan = clone.assist("plan", "--json")
    assert plan["changed"] > 0
    assert pids(clone) == before
    code, document = clone.assist("doctor", "--json")
    assert code == 1
    assert any(f["id"] == "version gateway" and f["status"] == "problem" for f in document["findings"])
    code, up = clone.assist("up", "--json")
    assert code == 0, up
    after = pids(clone)
    assert after["triton"] == before["triton"]
    assert after["gateway"] != before["gateway"]


def test_a_killed_triton_comes_back_without_anybody(clone, first_run):
    # A program that has just been started has no pid in the listing until it has run for a second.
    while not all((before := pids(clone)).values()):
        time.sleep(0.1)
    os.kill(before["triton"], signal.SIGKILL)
    told = client_env(clone.layout)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if pids(clone)["triton"] not in {0, before["triton"]} and ready(told["ASSIST_URL"]):
            break
        time.sleep(0.3)
    code, document = clone.assist("doctor", "--json")
    assert code == 0, document
    assert pids(clone)["gateway"] == before["gateway"]


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def pids(clone: Clone) -> dict[str, int]:
    control = clone.root / ".run/venvs/control/bin/supervisorctl"
    listing = subprocess.run(
        [control, "--configuration", clone.layout.supervisor_config, "status"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    rows = [line.replace(",", "").split() for line in listing.splitlines()]
    return {row[0]: int(row[row.index("pid") + 1]) if "pid" in row else 0 for row in rows}


def test_a_port_that_is_taken_is_refused_and_the_running_service_is_left_alone(clone, first_run):
    before = pids(clone)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        done = clone.make("up", f"PORT={holder.getsockname()[1]}", check=False)
    assert done.returncode != 0
    assert f"process {os.getpid()}" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert pids(clone) == before


def test_down_stops_everything_and_the_doctor_says_so(clone, first_run):
    clone.make("down")
    assert not clone.processes()
    code, document = clone.assist("doctor", "--json")
    assert code == 1
    assert any("is down" in finding["cause"] for finding in document["findings"])
    assert clone.make("down").returncode == 0


def test_clean_removes_everything_that_was_made(clone, first_run):
    clone.make("clean")
    ignored = ["git", "status", "--ignored", "--porcelain"]
    left = subprocess.run(
        ignored, cwd=clone.root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert left == ["?? stacks/trial.yaml"]
    assert not clone.processes()

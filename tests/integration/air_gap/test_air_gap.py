"""From a bundle to a completion on a machine that is cut off, and proof that nothing on it tried to leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assist.paths import SOURCE
from testing import needs
from tests.integration.air_gap import cut_off

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.root, pytest.mark.timeout(900)]

# What a user types there, and then a look at what came of it.
DAY = """
python3 -m assist.bundle install "$0" --key "$1"
export STACK=tiny
make --no-print-directory up
.run/bin/assist doctor --json >"$HOME/doctor.json"
.run/bin/assist up --json >"$HOME/second.json"
"""
ATTEMPTS = """
import socket
for family, address in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8:1::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as attempt:
                attempt.settimeout(0.2)
                attempt.connect((address, 443))
                attempt.send(b"x")
        except OSError:
            pass
try:
    socket.getaddrinfo("pypi.org", 443)
except OSError:
    pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gap")
    (folder / "trial").mkdir()
    cut_off.require(folder / "trial")
    return folder


@pytest.fixture(scope="module")
def clone(folder):
    subprocess.run(["git", "clone", "--quiet", SOURCE, folder / "p"], check=True)
    return folder / "p"


@pytest.fixture(scope="module")
def bundle(folder, clone):
    """Build the bundle of stack tiny from the clone, with what this machine has and can reach."""
    assist(clone, "key", str(folder / "a.key"))
    built = folder / "tiny.bundle"
    assist(
        clone, "build", "--stack", "tiny", "--key", str(folder / "a.key"), "--output", str(built), "--json"
    )
    return built


def assist(clone: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "assist", "bundle", *arguments],
        cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    for reason in ("could not be downloaded", "apt-get update"):
        if done.returncode and reason in done.stderr:
            needs.skip(f"no bundle can be built here: {done.stderr.strip()[-500:]}", needs.ONLINE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def day(folder, clone, bundle):
    return cut_off.run(folder / "home", clone, "bash", "-euc", DAY, str(bundle), str(folder / "a.pub"))


def test_what_tries_to_leave_is_counted(folder):
    seen = cut_off.run(folder / "control", folder, "/usr/bin/python3", "-c", ATTEMPTS)
    assert seen.left["connections"] >= 2
    assert seen.left["names"] >= 1


def test_a_machine_that_is_cut_off_gets_from_the_bundle_to_a_real_completion(folder, day):
    assert day.done.returncode == 0, day.done.stdout + day.done.stderr
    doctor = json.loads((folder / "home/doctor.json").read_text())
    assert doctor["status"] == "ok", doctor
    assert "completion" in {finding["id"] for finding in doctor["findings"]}


def test_nothing_on_the_way_tried_to_leave_or_asked_for_a_name(day):
    assert day.left == {"names": 0, "connections": 0}, day.done.stdout + day.done.stderr


def test_the_second_run_changes_nothing_without_a_network_either(folder, day):
    assert day.done.returncode == 0, day.done.stdout + day.done.stderr
    second = json.loads((folder / "home/second.json").read_text())
    assert (second["status"], second["changed"]) == ("serving", 0)


def test_a_library_that_debian_did_not_bring_came_out_of_the_bundles_package(clone, day):
    assert day.done.returncode == 0, day.done.stdout + day.done.stderr
    assert list(clone.glob(".run/bundle/debs/libpython3.*.deb"))
    assert list(
        clone.glob(".run/venvs/serving/lib/python3*/site-packages/nvidia_pytriton.libs/libpython3.*.so.1.0")
    )

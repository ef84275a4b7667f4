"""A host that is not reached keeps every other from being touched, wherever it stands among them.

The real playbooks, with this machine in place of the hosts that are there, and as a check: nothing can be changed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stackfile.catalogue import ROOT
from testing.ports import free_ports

HOSTS = ("a", "b", "c")


def inventory(folder: Path, gone: str) -> Path:
    """Write an inventory of three hosts, one of them at a port that nobody listens on."""
    (port,) = free_ports(1)
    there = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": port}
    hosts = {name: (away if name == gone else there) for name in HOSTS}
    groups = {"gateway": HOSTS[:1], "gpu": HOSTS, "queue": HOSTS[-1:]}
    children = {group: {"hosts": {name: {} for name in members}} for group, members in groups.items()}
    file = folder / "hosts.yml"
    file.write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": {"assist": {"children": children}}}}))
    return file


@pytest.mark.parametrize(
    ("playbook", "gone"),
    [("update", "a"), ("update", "b"), ("update", "c"), ("site", "a"), ("rollback", "c")],
)
def test_a_host_that_is_not_reached_stops_the_run_before_the_first_look_at_another(tmp_path, playbook, gone):
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    told = {"service_home": str(tmp_path), "service_release": "0" * 12}
    command = [
        program,
        "-i",
        str(inventory(tmp_path, gone)),
        str(ROOT / f"ansible/{playbook}.yml"),
        "--check",
    ]
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path / "ansible")}
    done = subprocess.run(
        [*command, "-e", json.dumps(told)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"fatal: [{gone}]: UNREACHABLE!" in done.stdout, done.stdout + done.stderr
    tasks = [line.split("[")[1].split("]")[0] for line in done.stdout.splitlines() if line.startswith("TASK")]
    assert tasks == ["Connectivity | Log in", "Connectivity | Assert that the host is reachable"]
    assert f"{gone} is unreachable. Nothing was changed." in done.stdout

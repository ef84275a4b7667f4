"""Each fault of a real host is named, alone and as the cause of what follows, and its printed remedy heals it.

A host that is under load and well is well.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from assist.doctor.faults import FAULTS
from testing import needs
from testing.lab.driver import INVENTORY, ROOT, Lab
from testing.lab.rolling import constant_load
from testing.until import until
from tests.integration.hosts.doctor_faults import INJECTIONS, Injection, faketime

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(2400)]

# Found below other faults, and a cause only where theirs cannot be seen.
SYMPTOMS = {"engine-not-ready", "gateway-not-ready", "completion-fails", "process-crashing"}

# All of them together take a quarter of an hour.
IN_EVERY_RUN = {"process-stopped", "model-damaged", "firewall-missing", "tls-expired"}


@dataclass
class Doctor:
    """The doctor of a lab's hosts, as a user runs it."""

    lab: Lab
    inventory: Path

    @classmethod
    def of(cls, lab: Lab, folder: Path, release: str) -> "Doctor":
        """Return it; ``folder`` gets an inventory that says where the lab keeps its keys."""
        file = folder / "site.yml"
        file.write_text(
            yaml.safe_dump({"all": {"vars": {"service_home": str(lab.home), "service_release": release}}})
        )
        return cls(lab, file)

    @property
    def environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"ANSIBLE_HOME": str(self.lab.folder / "ansible"), "PATH": programs}

    def examine(self, *options: str, stack: str = "hosts") -> tuple[int, list[dict[str, Any]]]:
        """Run ``assist doctor`` and return its status and findings."""
        inventories = [
            word for one in (INVENTORY, self.lab.inventory, self.inventory) for word in ("-i", str(one))
        ]
        command = [
            sys.executable,
            "-m",
            "assist",
            "doctor",
            "--stack",
            stack,
            *inventories,
            "--json",
            *options,
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["findings"]

    def wrong(self) -> list[dict[str, Any]]:
        """Return what is not well."""
        return [one for one in self.examine()[1] if one["status"] != "ok"]

    def run(self, remedy: str) -> subprocess.CompletedProcess[str]:
        """Run a remedy as it was printed."""
        return subprocess.run(
            ["bash", "-c", remedy], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
            timeout=1800,
        )  # fmt: skip


@pytest.fixture(scope="module")
def doctor(make_lab, tmp_path_factory) -> Doctor:
    lab = make_lab("D", "web1:groups=gateway,queue", "gpu1:groups=gpu")
    lab.play("site.yml").succeed()
    (archive,) = (lab.home / "releases").glob("*.tar.gz")
    return Doctor.of(lab, tmp_path_factory.mktemp("inventory"), archive.name.removesuffix(".tar.gz"))


def test_hosts_under_load_are_well(doctor, tmp_path):
    with constant_load(doctor.lab, "web1", tmp_path):
        code, findings = doctor.examine()
    assert code == 0, [one for one in findings if one["status"] != "ok"]
    assert {one["host"] for one in findings} == {"web1", "gpu1"}
    assert "completion" in {one["id"] for one in findings}


def _cases() -> Iterator[Any]:
    """Yield the injections: the first of some faults for every run, the others for ``make test-long``."""
    seen: Counter[str] = Counter()
    for injection in INJECTIONS:
        number = seen[injection.fault]
        seen[injection.fault] += 1
        always = number == 0 and injection.fault in IN_EVERY_RUN
        marks = () if always else pytest.mark.long
        yield pytest.param(injection, id=f"{injection.fault}-{number}", marks=marks)


@pytest.mark.parametrize("injection", list(_cases()))
def test_the_fault_is_named_as_the_one_cause_and_its_printed_remedy_heals(doctor, injection):
    if injection.fault == "clock-off" and faketime() is None:
        needs.skip("libfaketime is not here", needs.TOOLS)
    injection.apply(doctor.lab)
    try:
        root = check(doctor, injection)
        if injection.heals:
            healed = doctor.run(root["remedy"])
            assert healed.returncode == 0, root["remedy"] + healed.stdout + healed.stderr
    finally:
        if injection.after:
            doctor.lab.run(injection.host, injection.after)
    until(lambda: not doctor.wrong(), within_s=300, pause_s=1, evidence=doctor.wrong)


def check(doctor: Doctor, injection: Injection) -> dict[str, Any]:
    """Return the one root that the doctor names, on the right host, with everything a finding has."""
    code, findings = doctor.examine()
    roots = [one for one in findings if one["status"] in {"problem", "unknown"}]
    assert [(one["fault"], one["host"]) for one in roots] == [(injection.fault, injection.named_on)], roots
    assert code == 1
    (root,) = roots
    assert injection.where in f"{root['where']} {root['cause']} {root['evidence']}"
    assert root["remedy"]
    assert root["runbook"] == f"docs/faults.md#{injection.fault}"
    return root


def test_one_host_alone_is_examined_on_request(doctor):
    code, findings = doctor.examine("--host", "gpu1")
    assert code == 0, findings
    assert {one["host"] for one in findings} == {"gpu1"}


def test_a_stack_that_was_changed_and_not_applied_is_named_on_every_host_it_concerns(doctor, tmp_path):
    stack = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text()) | {"limits": {"max_queue": 7}}
    file = tmp_path / "hosts.yaml"
    file.write_text(yaml.safe_dump(stack))
    code, findings = doctor.examine(stack=str(file))
    roots = [one for one in findings if one["status"] == "problem"]
    assert {(one["fault"], one["host"]) for one in roots} == {("stack-not-applied", "web1")}
    assert code == 1
    assert "ansible/update.yml" in roots[0]["remedy"]


def test_what_only_root_may_read_is_neither_well_nor_wrong_for_a_user_who_may_not_become_root(doctor):
    lab = doctor.lab
    lab.run("gpu1", "useradd --create-home guest && install -d -m 700 -o guest /home/guest/.ssh"
            " && install -m 600 -o guest /root/.ssh/authorized_keys /home/guest/.ssh/authorized_keys")  # fmt: skip
    variables = yaml.safe_load(doctor.inventory.read_text())
    own = doctor.inventory.with_name("guest.yml")
    own.write_text(yaml.safe_dump(variables | {"gpu": {"hosts": {"gpu1": {"ansible_user": "guest"}}}}))
    try:
        code, findings = Doctor(lab, own).examine("--host", "gpu1")
    finally:
        lab.run("gpu1", "pkill -u guest; userdel --remove guest", check=False)
    assert code == 2, findings
    assert [one["id"] for one in findings if one["status"] != "ok"] == ["root"]


def test_every_fault_of_hosts_is_injected_on_a_host():
    named = {fault.name for fault in FAULTS if "hosts" in fault.targets}
    assert named == {one.fault for one in INJECTIONS} | SYMPTOMS | {"stack-not-applied"}

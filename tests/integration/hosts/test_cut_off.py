"""A run of the real playbook that is killed at every task that does something ends, repeated, as a clean one does."""

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing.lab.driver import Lab, Played
from testing.lab.state import settled, state, units

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1500)]

HOST = "one"
# More than there are tasks, so that a run which never ends is seen as one.
MOST = 60
CALLBACKS = {
    "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT}/ansible/plugins/callback:{ROOT}/tests/integration/hosts/callbacks",
    "ANSIBLE_CALLBACKS_ENABLED": "phases,cut_off",
}


def converge_with_cuts(lab: Lab, variables: dict[str, object], record: Path) -> Played:
    """Run the playbook until a run is not killed; any other failure is one."""
    for _ in range(MOST):
        played = lab.play(
            "site.yml", variables=variables, environment=CALLBACKS | {"ASSIST_CUT_RECORD": str(record)}
        )
        if played.code == 0:
            return played
        assert played.code == -signal.SIGKILL, played.output[-6000:]
    raise AssertionError(f"still killed after {MOST} runs: {record.read_text()}")


@pytest.fixture
def labs(make_lab, tmp_path) -> tuple[Lab, Lab, dict[str, object]]:
    """Two hosts of the same name and address, each on a network of its own, and one release for both."""
    clean, cut = (make_lab(suffix, f"{HOST}:groups=gateway,gpu,queue") for suffix in "KL")
    pack = [sys.executable, "-P", "-m", "assist.hosts.release", str(tmp_path)]
    release = subprocess.run(pack, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    for lab in (clean, cut):
        shutil.copytree(tmp_path, lab.home / "releases", dirs_exist_ok=True)
    return clean, cut, {"service_release": release}


def test_a_run_that_is_killed_at_each_task_and_repeated_ends_as_a_clean_one(labs, tmp_path):
    clean, cut, variables = labs
    record = tmp_path / "cuts"
    with ThreadPoolExecutor() as pool:
        converged = pool.submit(clean.play, "site.yml", variables=variables)
        converge_with_cuts(cut, variables, record)
        converged.result().succeed()
    tasks = record.read_text().splitlines()
    # Every task that changes something: what a run that is not killed reports as changed.
    assert set(tasks) >= converged.result().changed[HOST], converged.result().changed[HOST] - set(tasks)
    clean_state, cut_state = (settled(state(lab, HOST), secrets=False) for lab in (clean, cut))
    assert cut_state == clean_state, "\n".join(sorted(cut_state ^ clean_state)[:40])
    assert units(cut, HOST) == units(clean, HOST)
    again = cut.play("site.yml", variables=variables).succeed()
    assert again.changes == 0, again.changed

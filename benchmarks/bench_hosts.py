"""The duration of a run without changes, against the same roles with Ansible's defaults over SSH.

Three hosts (gateway and queue, two GPU hosts) are converged, then the two settings alternate. Untuned means
without pipelining, and with facts gathered in each play, Ansible's default; SSH connections stay open in
both, also a default. Goal: at most 0.5 of the untuned duration. Needs what tests/integration/hosts needs.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from stackfile.catalogue import ROOT
from testing.lab.driver import Lab, missing

PLAYBOOK = "plays/hosts.yml"
ROUNDS = 3
TARGET = 0.5
UNTUNED = {"ANSIBLE_PIPELINING": "False", "ANSIBLE_GATHERING": "implicit"}


def main() -> int:
    """Print the table and the ratio; return 1 when the goal is missed."""
    if reason := missing():
        print(f"skipped: {reason}")
        return 0
    lab = Lab("Z")
    try:
        lab.up("gw1:groups=gateway,queue", "gpu1:groups=gpu", "gpu2:groups=gpu")
        with tempfile.TemporaryDirectory(prefix="assist-bench-") as folder:
            return _report(*_measure(lab, _gathering(Path(folder))))
    finally:
        lab.destroy()


def _gathering(folder: Path) -> Path:
    """Copy the playbooks to ``folder``, changed so that every play gathers facts."""
    target = folder / "ansible"
    shutil.copytree(ROOT / "ansible", target)
    for playbook in (target / "plays").glob("*.yml"):
        text = playbook.read_text(encoding="utf-8")
        playbook.write_text(text.replace("  gather_facts: false\n", ""), encoding="utf-8")
    return target / PLAYBOOK


def _measure(lab: Lab, gathering: Path) -> tuple[list[float], list[float]]:
    lab.play(PLAYBOOK, timeout=1500).succeed()
    (archive,) = (lab.home / "releases").glob("*.tar.gz")
    variables: dict[str, object] = {"service_release": archive.name.removesuffix(".tar.gz")}
    tuned, untuned = [], []
    for _ in range(ROUNDS):
        tuned.append(_seconds(lab, PLAYBOOK, variables, {}))
        untuned.append(_seconds(lab, str(gathering), variables, UNTUNED))
    return tuned, untuned


def _seconds(lab: Lab, playbook: str, variables: dict[str, object], settings: dict[str, str]) -> float:
    started = time.monotonic()
    played = lab.play(playbook, variables=variables, environment=settings).succeed()
    assert played.changes == 0, played.changed
    return time.monotonic() - started


def _report(tuned: list[float], untuned: list[float]) -> int:
    print(f"load average {os.getloadavg()[0]:.1f}, {ROUNDS} rounds in turn, seconds")
    for name, seconds in (("as shipped", tuned), ("untuned", untuned)):
        print(f"{name:<12} median {statistics.median(seconds):6.1f}   best {min(seconds):6.1f}")
    ratio = statistics.median(tuned) / statistics.median(untuned)
    print(f"ratio {ratio:.2f} (target {TARGET} or less)")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())

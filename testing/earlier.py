"""The project at an earlier commit, in a folder and an environment of its own: what users update from."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testing import needs
from testing.lab.driver import ROOT, Lab, Played, recap

# Release 0.1: the last commit before the packages, units and settings got the names that they have now.
RELEASE_0_1 = "f7a48ef"


def require(commit: str = RELEASE_0_1) -> None:
    """Skip the test unless this clone has the commit."""
    command = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode:
        needs.skip(f"commit {commit} is not in this clone, as with a shallow one", "git fetch --unshallow")


def unpack(folder: Path, commit: str = RELEASE_0_1) -> Path:
    """Unpack the project of ``commit`` into ``folder`` and install what runs Ansible; return the folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract"], cwd=folder, input=archive, check=True)
    bootstrap = ["scripts/bootstrap", ".run/venvs/control", "requirements/control.txt"]
    done = subprocess.run(bootstrap, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


def play(
    tree: Path, lab: Lab, playbook: str, variables: Mapping[str, object], timeout: float = 1200
) -> Played:
    """Run a playbook of an earlier ``tree`` on a lab's hosts, with the lab's folder of keys and archives."""
    programs = tree / ".run/venvs/control/bin"
    inventories = ["-i", str(tree / "ansible/inventories/lab"), "-i", str(lab.inventory)]
    options = ["-e", json.dumps({"service_home": str(lab.home)} | dict(variables))]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(programs / "ansible-playbook"), *inventories, str(tree / "ansible" / playbook), *options],
        cwd=tree,
        env=environment | {"ANSIBLE_NOCOLOR": "1", "PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Played(done.returncode, done.stdout + done.stderr, recap(done.stdout))

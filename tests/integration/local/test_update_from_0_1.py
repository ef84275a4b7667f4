"""A service that release 0.1 started in a clone is taken over by the clone's next version, with nothing lost."""

import json
import subprocess
from pathlib import Path

import pytest

from assist.client_env import client_env
from assist.paths import SOURCE
from testing import earlier, needs
from tests.integration.local.test_local_target import Clone

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1800)]


def git(*arguments: str, folder: Path = SOURCE) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def kept(clone: Clone) -> dict[str, object]:
    """Return what a user would miss: the client's address and key, the hashed keys, each file of the store."""
    files = [path for path in clone.layout.store.rglob("*") if path.is_file() and path.name != ".lock"]
    return {
        "client": client_env(clone.layout),
        "keys": clone.layout.keys.read_text(),
        "models": {str(path.relative_to(clone.layout.store)): path.stat().st_ino for path in files},
    }


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    earlier.require()
    needs.program("make", "git")
    root = tmp_path_factory.mktemp("update") / "p"
    git("clone", "--quiet", "--no-checkout", str(SOURCE), str(root))
    git("checkout", "--quiet", earlier.RELEASE_0_1, folder=root)
    clone = Clone(root)
    try:
        clone.make("up")
        yield clone
    finally:
        clone.make("clean", check=False)


@pytest.fixture(scope="module")
def before(clone) -> dict[str, object]:
    assert any("-m api" in " ".join(process.cmdline()) for process in clone.processes())
    return kept(clone)


@pytest.fixture(scope="module")
def updated(clone, before) -> Clone:
    """Give the clone as after `git pull` and `make up`."""
    git("checkout", "--quiet", git("rev-parse", "HEAD"), folder=clone.root)
    clone.make("up")
    return clone


def test_the_client_the_keys_and_the_models_are_those_from_before(updated, before):
    assert kept(updated) == before


def test_nothing_of_the_earlier_version_runs_or_is_left(updated):
    commands = [" ".join(process.cmdline()) for process in updated.processes()]
    assert any("-m gateway" in command for command in commands)
    assert not [command for command in commands if "-m api" in command or "serving.triton " in command]
    links = [path.name for path in updated.layout.home.glob("venvs/*/lib/python3*/site-packages/a*.pth")]
    assert set(links) == {"ai_assist.pth"}


def test_the_doctor_finds_all_well_and_a_second_run_changes_nothing(updated):
    code, document = updated.assist("doctor", "--json")
    assert code == 0, json.dumps(document, indent=1)
    code, second = updated.assist("up", "--json")
    assert (code, second["status"], second["changed"]) == (0, "serving", 0), second

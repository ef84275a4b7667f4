"""Every way to a model refuses one whose licence is not accepted, before anything happens; and hands the acceptance on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from rich.console import Console
from typer.testing import CliRunner

from assist import cli, paths, playbook, up
from assist.deployment import resolve as resolve_local
from assist.hosts.inventory import Inventory
from assist.hosts.role_vars import resolve
from infra import program, render
from stackfile import StackFileError, load_stack
from stackfile.catalogue import ROOT
from tests.integration.parity import deployments
from tests.stackfile.test_licence_checks import CLOSED, written

ONE = Inventory({"gateway": ["a"], "gpu": ["a"], "queue": ["a"]}, {"a": "192.0.2.1"})
REMEDY = "accept_licence: qwen-research"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Return the folder where the command would make everything."""
    folder = tmp_path / "home"
    monkeypatch.setattr(cli, "Paths", lambda: paths.Paths(ROOT, folder))
    return folder


@pytest.mark.parametrize("command", ["up", "plan", "preflight", "show"])
def test_the_commands_for_this_machine_refuse_and_make_nothing(tmp_path, home, command):
    file = written(tmp_path, "local", model=CLOSED)
    done = CliRunner().invoke(cli.app, [command, "--stack", str(file)], env={"COLUMNS": "1000"})
    assert done.exit_code != 0
    assert REMEDY in done.output
    assert not home.exists()


def test_the_plan_of_a_cluster_on_google_refuses_before_it_asks_google(tmp_path):
    file = written(tmp_path, "gke", model=CLOSED)
    done = CliRunner().invoke(cli.app, ["plan", "--stack", str(file)], env={"COLUMNS": "1000"})
    assert done.exit_code != 0
    assert REMEDY in done.output


def test_a_bundle_is_neither_listed_nor_built(tmp_path):
    file, key, made = written(tmp_path, "local", model=CLOSED), tmp_path / "key", tmp_path / "a.bundle"
    assert CliRunner().invoke(cli.app, ["bundle", "key", str(key)]).exit_code == 0
    for arguments in (["list"], ["build", "--key", str(key), "--output", str(made)]):
        options = ["bundle", *arguments, "--stack", str(file)]
        done = CliRunner().invoke(cli.app, options, env={"COLUMNS": "1000"})
        assert done.exit_code != 0
        assert REMEDY in done.output
    assert not made.exists()


def test_the_roles_of_hosts_get_no_variables(tmp_path):
    file = written(tmp_path, "hosts", model=CLOSED)
    with pytest.raises(StackFileError, match=REMEDY):
        resolve(str(file), ONE, "a", "0123456789ab")


def test_the_lookup_of_the_playbooks_fails(tmp_path):
    lookup_loader.add_directory(str(ROOT / "ansible/plugins/lookup"))
    lookup = lookup_loader.get("stack")
    file = written(tmp_path, "local", model=CLOSED)
    with pytest.raises(AnsibleLookupError, match=REMEDY):
        lookup.run([str(file)], paths={"source": str(ROOT), "home": str(tmp_path / "home")})
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("target", ["kubernetes", "gke"])
def test_pulumis_program_does_not_start(tmp_path, target):
    (tmp_path / "stacks").mkdir()
    written(tmp_path / "stacks", target, model=CLOSED)
    with pytest.raises(StackFileError, match=REMEDY):
        program.load(tmp_path, "s")


def test_no_manifest_is_rendered(tmp_path, capsys):
    file = written(tmp_path, "kubernetes", model=CLOSED)
    assert render.main(["--stack", str(file), "--to", str(tmp_path / "out")]) == 1
    assert REMEDY in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def loader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_loader", *arguments, "--store", str(folder / "store")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600)


@pytest.mark.parametrize("wrong", [[], ["--accept-licence", "Apache-2.0"]])
def test_the_loader_by_itself_refuses(tmp_path, wrong):
    for arguments in (["fetch", CLOSED], ["import", CLOSED, str(tmp_path)]):
        done = loader(tmp_path, *arguments, *wrong)
        assert done.returncode == 1
        assert "--accept-licence qwen-research" in done.stdout
    assert not (tmp_path / "store").exists()


def test_the_loader_takes_the_acceptance(tmp_path):
    done = loader(tmp_path, "fetch", CLOSED, "--accept-licence", "qwen-research", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would fetch" in done.stdout


@pytest.mark.parametrize("target", ["local", "hosts", "kubernetes"])
def test_each_target_hands_the_acceptance_to_its_loader(tmp_path, target):
    file = written(tmp_path, target, model=CLOSED, accept_licence="qwen-research")
    words = deployments.loader_of(file, target)
    assert words[words.index("--accept-licence") + 1] == "qwen-research"


@pytest.mark.parametrize("target", ["local", "hosts", "kubernetes"])
def test_without_one_the_loader_gets_no_such_option(tmp_path, target):
    assert "--accept-licence" not in deployments.loader_of(
        written(tmp_path, target, model="tiny-codegen"), target
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_a_plan_for_this_machine_says_what_the_licence_demands(tmp_path, capsys, as_json):
    file = written(tmp_path, "local", model="starcoder2-3b-Q4_K_M")
    deployment = resolve_local(str(file), paths.Paths(ROOT, tmp_path / "home"))
    request = up.Request(str(file), "", "", as_json=as_json, check=True)
    assert up._planned(deployment, playbook.Run(succeeded=True), request, Console(width=300)) == 0
    printed = capsys.readouterr().out
    assert deployment.stack.model.restrictions in printed
    if as_json:
        assert json.loads(printed)["commercial"] is True


def test_the_list_says_what_a_licence_demands(tmp_path):
    stack = load_stack(written(tmp_path, "local", model="starcoder2-3b-Q4_K_M"))
    listed = CliRunner().invoke(cli.app, ["models", "list"]).stdout
    assert "use restrictions" in stack.model.terms
    assert stack.model.terms in listed
    # A cell may be broken into lines: how wide it is depends on what is in this clone's store.
    assert "qwen-research" in listed
    assert "(not commercial)" in listed

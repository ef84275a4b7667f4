"""The command line itself: version, completion, former names, and the resolved stack."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from assist.cli import app
from assist.paths import SOURCE
from stackfile import load_stack
from stackfile.version import VERSION


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"STACK": None, "HOST": None, "PORT": None})


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["version"]])
def test_the_version_is_the_projects(arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == VERSION


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("assist ", {"up", "plan", "show", "doctor", "bundle"}), ("assist keys ", {"add", "list", "revoke"})],
)
def test_a_shell_completes_commands_and_those_of_groups(typed, offered):
    environment = os.environ | {
        "_ASSIST_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split())),
    }
    done = subprocess.run(
        [sys.executable, "-m", "assist"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=SOURCE,
        check=True,
    )
    assert offered <= set(done.stdout.split())


def test_the_help_offers_to_install_completion():
    assert "--install-completion" in run("--help").stdout


def test_the_former_name_of_doctor_does_the_same_and_warns_on_standard_error(monkeypatch, tmp_path):
    from assist import cli, paths

    monkeypatch.setattr(cli, "Paths", lambda: paths.Paths(SOURCE, tmp_path))
    former, new = run("status", "--json"), run("doctor", "--json")
    assert (former.exit_code, former.stdout) == (new.exit_code, new.stdout)
    assert "`assist status` was renamed to `assist doctor`" in former.stderr
    assert new.stderr == ""


def test_show_prints_the_resolved_stack_as_yaml_and_as_json():
    stack = load_stack(SOURCE / "stacks/local.yaml").model_dump(mode="json")
    as_yaml, as_json = run("show"), run("show", "--stack", "local", "--json")
    assert as_yaml.exit_code == as_json.exit_code == 0
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout) == stack
    assert list(yaml.safe_load(as_yaml.stdout)) == list(stack), "in the order of the documentation"


def test_show_takes_the_overrides_that_up_takes():
    gateway = yaml.safe_load(run("show", "--port", "5100").stdout)["gateway"]
    assert gateway["port"] == 5100


def test_show_hides_passwords_in_urls(tmp_path):
    file = tmp_path / "proxied.yaml"
    file.write_text(
        "name: proxied\ntarget: kubernetes\nmodel: tiny-codegen\n"
        "kubernetes: {loader: {https_proxy: 'http://user:hunter2@proxy.example:3128'}}\n"
    )
    for options in ([], ["--json"]):
        shown = run("show", "--stack", str(file), *options).stdout
        assert "hunter2" not in shown
        assert "http://user:***@proxy.example:3128" in shown


@pytest.mark.parametrize("command", ["show", "plan", "up", "preflight"])
def test_an_unknown_stack_is_refused_with_the_stacks_there_are(command):
    done = run(command, "--stack", "nowhere")
    assert done.exit_code == 2
    assert "Stacks here:" in done.stderr
    assert "local" in done.stderr
    assert "Pulumi" not in done.stderr


def test_a_former_key_of_a_stack_is_reported_once_on_standard_error(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("name: old\ntarget: local\nmodel: tiny-codegen\nlimits:\n  hold_s: 3.0\n")
    done = subprocess.run(
        [sys.executable, "-m", "assist", "show", "--stack", file],
        capture_output=True, text=True, cwd=SOURCE, check=True,
    )  # fmt: skip
    assert yaml.safe_load(done.stdout)["limits"]["engine_wait_s"] == 3.0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warning: {file}:5: limits.hold_s was renamed to limits.engine_wait_s")


def test_the_logs_of_the_last_change_have_names_of_their_own(monkeypatch, tmp_path, capfd):
    from assist import cli, paths

    layout = paths.Paths(SOURCE, tmp_path)
    for folder, name in ((layout.log, "triton"), (layout.trial_log, "trial-triton")):
        folder.mkdir(parents=True)
        (folder / f"{name}.log").write_text(f"a line of {name}\n")
    monkeypatch.setattr(cli, "Paths", lambda: layout)
    assert run("logs", "trial-triton").exit_code == 0
    assert capfd.readouterr().out == "a line of trial-triton\n"
    assert run("logs").exit_code == 0
    assert capfd.readouterr().out == "a line of triton\n"

"""`assist gke` as a user runs it."""

import json

import pytest
from typer.testing import CliRunner

from assist.cli import app
from tests.assist.gke import google
from tests.infra.gcp.stacks import plain, written


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"STACK": None, "GOOGLE_CLOUD_PROJECT": None})


def test_the_former_name_of_plan_works_and_warns_on_standard_error(tmp_path, file):
    options = ["--stack", file, "--project", "demo-project", "--recorded", recorded(tmp_path), "--json"]
    done = run("gke", "plan", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(run("plan", *options).stdout)
    assert "`assist gke plan` was renamed to `assist plan" in done.stderr
    assert run("plan", *options).stderr == ""


def test_a_plan_without_a_project_names_the_command_that_sets_it(tmp_path, file):
    done = run("plan", "--stack", file)
    assert done.exit_code == 2
    assert "pulumi config set gcp:project" in done.output


def test_recorded_answers_are_refused_for_a_stack_that_google_does_not_run(tmp_path):
    done = run("plan", "--stack", "local", "--recorded", recorded(tmp_path))
    assert done.exit_code == 2
    assert "remove --recorded" in done.output


def recorded(tmp_path, **quotas):
    file = tmp_path / "responses.json"
    file.write_text(json.dumps(google.responses(**quotas)))
    return str(file)


@pytest.fixture
def file(tmp_path):
    return str(written(plain(gpu_pool__spot=False), tmp_path))


def test_a_plan_replays_recorded_answers_and_says_go(tmp_path, file):
    done = run(
        "plan", "--stack", file, "--project", "demo-project", "--recorded", recorded(tmp_path), "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["status"] == "ok"
    (deadline,) = [each for each in json.loads(done.output)["findings"] if each["id"] == "deadline"]
    assert deadline["cause"].startswith("30 s; 1024 tokens at ")


def test_a_plan_that_would_fail_exits_1_with_the_remedy(tmp_path, file):
    responses = recorded(tmp_path, NVIDIA_T4_GPUS=0)
    done = run("plan", "--stack", file, "--project", "demo-project", "--recorded", responses, "--json")
    assert done.exit_code == 1
    (bad,) = [one for one in json.loads(done.output)["findings"] if one["status"] != "ok"]
    assert "raise the quota to 6" in bad["remedy"]


def test_the_project_of_pulumis_configuration_is_used(tmp_path, file):
    (tmp_path / "Pulumi.gke-dev.yaml").write_text("config:\n  gcp:project: demo-project\n")
    done = run("plan", "--stack", file, "--recorded", recorded(tmp_path), "--json")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gke", "plan", "--stack", "local"], "gcp:project"),
        (["plan", "--stack", "nowhere"], "does not exist"),
    ],
)
def test_a_stack_that_cannot_be_planned_is_refused_with_the_reason(arguments, says):
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in done.output


def test_a_stack_of_another_target_is_refused(tmp_path):
    done = run("gke", "plan", "--stack", "local", "--project", "p", "--recorded", recorded(tmp_path))
    assert done.exit_code == 2
    assert "target local" in done.output

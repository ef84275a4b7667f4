"""What `assist plan` says of a stack beside the changes."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from assist import playbook, up
from assist.deployment import resolve
from assist.paths import SOURCE, Paths


@pytest.mark.parametrize(("limits", "lower"), [("{}", False), ("{deadline_s: 45}", True)])
def test_a_plan_derives_the_deadline_and_says_so_where_the_stack_sets_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: str, *, lower: bool
) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text(f"name: slow\ntarget: local\nmodel: mistral-7b-instruct-Q2_K\nlimits: {limits}\n")
    deployment = resolve(str(file), Paths(SOURCE, tmp_path / ".run"))
    done, console = playbook.Run(succeeded=True), Console(width=300)
    up._planned(deployment, done, up.Request(str(file), "", ""), console)
    text = capsys.readouterr().out
    deadline_s = deployment.stack.limits.deadline_s
    assert f"Deadline: {deadline_s:g} s; 1024 tokens at " in text
    assert ("set lower" in text) is lower
    up._planned(deployment, done, up.Request(str(file), "", "", as_json=True), console)
    found = json.loads(capsys.readouterr().out)["deadline"]
    assert found["deadline_s"] == deadline_s
    assert (found["needed_s"] > deadline_s) is lower

"""The playbook runs on any machine that Ansible is installed on."""

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import Console

from assist import playbook
from assist.paths import Paths
from model_loader.sources.fallback import NO_SOURCE


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_XX.UTF-8"])
def test_it_runs_in_a_locale_that_is_not_utf8_or_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str
):
    monkeypatch.setenv("LC_ALL", locale)
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible/site.yml").write_text("- name: Nothing\n  hosts: localhost\n  gather_facts: false\n")
    layout = Paths(tmp_path, tmp_path / "home")
    playbook.run(layout, {}, Console(quiet=True))
    assert "PLAY RECAP" in (layout.home / "ansible.log").read_text()


def test_a_download_shows_its_size_rate_and_time_left_and_the_sources_that_failed(tmp_path: Path):
    events = [
        {"event": "unavailable", "source": "https://hub.example", "reason": "refused", "next": "package index"},
        {"event": "progress", "bytes": 200_000_000, "total": 400_000_000,
         "bytes_per_second": 50_000_000, "seconds_left": 4.0},
    ]  # fmt: skip
    lines = "".join(json.dumps(event) + "\n" for event in events)
    script = (
        f"import os, sys, time; open(os.environ['MODEL_LOADER_EVENTS'], 'a').write({lines!r}); time.sleep(1)"
    )
    command = json.dumps(f"{sys.executable} -c {shlex.quote(script)}")
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible/site.yml").write_text(
        "- name: Load\n  hosts: localhost\n  connection: local\n  gather_facts: false\n"
        f"  tasks:\n    - name: Fetch\n      ansible.builtin.raw: {command}\n"
    )
    terminal = io.StringIO()
    playbook.run(
        Paths(tmp_path, tmp_path / "home"), {}, Console(width=160, force_terminal=True, file=terminal)
    )
    assert "https://hub.example: refused; trying package index" in terminal.getvalue()
    assert "200 of 400 MB, 50.0 MB/s, 4 s left" in terminal.getvalue()


@pytest.mark.parametrize(("reason", "told"), [(f"{NO_SOURCE}. hub: refused.", True), ("disk full", False)])
def test_a_model_that_no_source_has_is_no_dead_end(tmp_path: Path, reason: str, told: bool):
    timings = tmp_path / "phases.json"
    failure = {"task": "Model | Fetch", "message": reason}
    timings.write_text(json.dumps({"seconds": {}, "changed": 0, "failed": [failure]}))
    (message,) = playbook._result(timings, 2, [], tmp_path / "log").failures
    assert message.startswith(f"Model | Fetch: {reason}")
    assert ("make up STACK=tiny" in message) is told

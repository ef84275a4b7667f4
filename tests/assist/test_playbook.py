"""The playbook runs on any machine that Ansible is installed on."""

from pathlib import Path

import pytest
from rich.console import Console

from assist import playbook
from assist.paths import Paths


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

"""Which units are outdated: by what is on disk, or in a check by what would be."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.ansible.plugins import plugin

plugin("module_utils/systemctl")
restart_outdated_units = plugin("modules/restart_outdated_units")
GATEWAY, OTHER = "ai-assist-gateway@5000.service", "ai-assist-gateway@5001.service"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the module on a host where both instances run what is on disk."""
    units, stamps = tmp_path / "units", tmp_path / "stamps"
    for folder in (units, stamps):
        folder.mkdir()
    (units / "ai-assist-gateway@.service").write_text("ExecStartPost=echo 1111.2222 >/run/ai-assist/%n\n")
    for unit in (GATEWAY, OTHER):
        (stamps / unit).write_text("1111.2222\n")
    monkeypatch.setattr(restart_outdated_units, "_UNITS", units)
    monkeypatch.setattr(restart_outdated_units, "_STAMPS", stamps)
    done: list[list[str]] = []

    def command(argv: list[str]) -> tuple[int, str, str]:
        done.append(argv)
        return 0, "", ""

    def module(*, check: bool, **params: Any) -> tuple[dict[str, Any], list[str]]:
        said: dict[str, Any] = {}
        given = {"units": [GATEWAY, OTHER], "restart": True, "revision": "", **params}
        double = SimpleNamespace(params=given, check_mode=check, run_command=command, exit_json=said.update)
        monkeypatch.setattr(restart_outdated_units, "AnsibleModule", lambda **_: double)
        restart_outdated_units.main()
        return said, [argv[-1] for argv in done if argv[1] == "restart"]

    return module


def test_units_that_run_what_is_on_disk_are_left_alone(run):
    assert run(check=False) == ({"changed": False, "outdated": []}, [])


def test_a_check_predicts_the_restarts_for_what_it_has_not_written(run):
    both = [GATEWAY, OTHER]
    assert run(check=True, revision="3333.4444") == ({"changed": True, "outdated": both}, [])
    assert run(check=True, revision="1111.2222") == ({"changed": False, "outdated": []}, [])
    assert run(check=True, revision="3333.4444", restart=False) == ({"changed": False, "outdated": both}, [])


def test_outdated_units_are_restarted(run, tmp_path):
    (tmp_path / "stamps" / OTHER).write_text("5555.6666\n")
    assert run(check=False) == ({"changed": True, "outdated": [OTHER]}, [OTHER])

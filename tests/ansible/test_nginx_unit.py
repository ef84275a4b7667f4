"""What the module nginx_unit does in each state of a host, with systemctl, ss and nft in the hands of the test."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ansible.plugins import plugin

hold = plugin("module_utils/connection_hold")
plugin("module_utils/systemctl")
nginx_unit = plugin("modules/nginx_unit")
NEW, OLD = nginx_unit.UNIT, nginx_unit.FORMER
REVISION = "1111.2222"


class FailedError(Exception):
    """What fail_json raises."""


@dataclass
class Host:
    """A host of which ``running`` has the units that run; ``done`` lists what was done, in order."""

    folder: Path
    running: set[str] = field(default_factory=set)
    enabled: set[str] = field(default_factory=set)
    refuses: str = ""
    done: list[str] = field(default_factory=list)
    held: bool = False
    check_mode: bool = False
    waiting: list[int] = field(default_factory=list)

    def write(self, unit: str, revision: str = REVISION, started: str = "") -> None:
        (self.folder / "units" / unit).write_text(f"ExecStartPost=echo {revision} >/run/ai-assist/%n\n")
        if started:
            (self.folder / "stamps" / unit).write_text(f"{started}\n")
            self.running.add(unit)
            self.enabled.add(unit)

    def run_command(self, argv: list[str], data: str = "", **_: Any) -> tuple[int, str, str]:
        program = getattr(self, argv[0].replace("-", "_"))
        return program(argv, data)

    def nft(self, _: list[str], rules: str) -> tuple[int, str, str]:
        self.held = "add element" in rules
        self.done.append("hold" if self.held else "release")
        return (1, "", "no kernel support") if self.refuses == "nft" else (0, "", "")

    def ss(self, *_: Any) -> tuple[int, str, str]:
        queue = self.waiting.pop() if self.waiting else 0
        return 0, f"LISTEN {queue} 511 0.0.0.0:443 0.0.0.0:*\n" if self.running else "", ""

    def journalctl(self, *_: Any) -> tuple[int, str, str]:
        return 0, "bind() failed", ""

    def systemctl(self, argv: list[str], _: str) -> tuple[int, str, str]:
        verb, unit = argv[1], argv[-1]
        if verb == "show":
            unit = argv[2]
            active = "active" if unit in self.running else "inactive"
            enabled = "enabled" if unit in self.enabled else "disabled"
            return 0, f"MainPID=999999999\nActiveState={active}\nUnitFileState={enabled}\n", ""
        if self.refuses == verb or (verb == "stop" and unit not in self.running):
            return 1, "", "job failed"
        self.done.append(f"{verb} {unit}" if verb != "daemon-reload" else verb)
        if verb in {"start", "restart"}:
            self.running.add(unit)
        elif verb in {"kill", "stop"}:
            self.running.discard(unit)
        elif verb == "enable":
            self.enabled.add(unit)
        return 0, "", ""

    def converge(self, **params: Any) -> list[str]:
        def fail_json(**result: Any) -> None:
            raise FailedError(result["msg"])

        given = {"port": 443, "revision": None, "restart": False, "grace_s": 1} | params
        module = SimpleNamespace(
            params=given, run_command=self.run_command, check_mode=self.check_mode, fail_json=fail_json
        )
        nginx = nginx_unit.Nginx(module)
        nginx.converge()
        return nginx.changes


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name, folder in (("UNITS", "units"), ("STAMPS", "stamps"), ("LOGS", "logs"), ("RUN", "run")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(nginx_unit, name, tmp_path / folder)
    return Host(tmp_path)


def test_nginx_that_runs_what_is_on_disk_is_left_alone(host):
    host.write(NEW, started=REVISION)
    assert host.converge() == []
    assert host.done == []


def test_nginx_that_does_not_run_is_started_and_enabled(host):
    host.write(NEW)
    assert host.converge() == [f"start {NEW}", f"enable {NEW}"]
    assert host.done == [f"restart {NEW}", f"enable {NEW}"]


@pytest.mark.parametrize(
    ("started", "restart", "verb"),
    [
        ("1111.3333", False, "reload"),
        ("1111.3333", True, "reload"),
        ("4444.2222", False, "reload"),
        ("4444.2222", True, "restart"),
        ("1111.drained", True, "reload"),
    ],
)
def test_a_changed_configuration_is_reloaded_and_a_changed_unit_restarted_where_that_is_allowed(
    host, started, restart, verb
):
    host.write(NEW, started=started)
    assert host.converge(restart=restart) == [f"{verb} {NEW}"]


def test_a_unit_of_the_former_name_is_replaced_while_connections_are_held(host):
    host.write(OLD, started="5555.6666")
    host.write(NEW)
    host.waiting = [0, 3]  # three connections are accepted before the former process quits
    host.converge()
    order = [step for step in host.done if step in {"hold", "release", f"kill {OLD}", f"start {NEW}"}]
    assert order == ["hold", f"kill {OLD}", f"start {NEW}", "release"]
    assert host.running == {NEW}
    assert not host.waiting
    assert [path.name for path in (host.folder / "units").iterdir()] == [NEW]
    assert list((host.folder / "stamps").iterdir()) == []


def test_a_restored_version_with_the_former_name_replaces_the_unit_whose_file_is_gone(host):
    host.write(OLD)
    host.running, host.enabled = {NEW}, {NEW}
    (host.folder / "stamps" / NEW).write_text(REVISION)
    changes = host.converge()
    assert changes[:2] == [f"replace {NEW} by {OLD}", f"enable {OLD}"]
    assert host.running == {OLD}
    assert list((host.folder / "stamps").iterdir()) == []


def test_logs_take_the_name_that_is_rotated_and_none_is_overwritten(host):
    host.write(OLD, started="5555.6666")
    host.write(NEW)
    logs = host.folder / "logs"
    for name in ("front.log", "front.log.1", "front.log.2.gz", "front.log.bak", "access.log.1"):
        (logs / name).write_text(name)
    host.converge()
    found = {path.name: path.read_text() for path in logs.iterdir()}
    assert found == {
        "access.log": "front.log", "access.log.1": "access.log.1", "access.log.2.gz": "front.log.2.gz",
        "front.log.1": "front.log.1", "front.log.bak": "front.log.bak",
    }  # fmt: skip


def test_connections_are_released_where_the_new_unit_does_not_start(host):
    host.write(OLD, started="5555.6666")
    host.write(NEW)
    host.refuses = "start"
    with pytest.raises(FailedError, match="bind"):
        host.converge()
    assert host.done[-1] == "release"
    assert not host.held


def test_without_nftables_the_former_unit_goes_on_and_the_remedy_is_named(host):
    host.write(OLD, started="5555.6666")
    host.write(NEW)
    host.refuses = "nft"
    with pytest.raises(hold.HoldError, match="apt-get install nftables"):
        host.converge()
    assert host.running == {OLD}


def test_a_check_predicts_the_replacement_and_makes_none(host):
    host.write(OLD, started="5555.6666")
    host.check_mode = True
    changes = host.converge(revision=REVISION)
    assert changes[:2] == [f"replace {OLD} by {NEW}", f"enable {NEW}"]
    assert host.done == []
    assert host.running == {OLD}

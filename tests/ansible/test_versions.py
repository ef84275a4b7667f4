"""Versions of a service's files: kept, put back and swapped byte for byte, whatever moment a run is cut off at."""

import json
from pathlib import Path

import pytest

from tests.ansible.plugins import plugin

snapshots = plugin("module_utils/snapshots")
nginx_drain = plugin("modules/nginx_drain")


class Service:
    """Files as a deployment of one version writes them, and the versions kept of them."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.state = folder / "etc", folder / "state"
        self.etc.mkdir()
        self.versions = snapshots.Snapshots(
            self.state, "triton", (f"{self.etc}/*.env", f"{self.etc}/*.service")
        )

    def deploy(self, version: str, *more: str) -> None:
        for name in ("a.service", *more):
            (self.etc / name).write_bytes(f"{version} of {name}\n\xff".encode("latin-1"))
            (self.etc / name).chmod(0o640 if version == "v2" else 0o644)

    def update(self, version: str, *more: str) -> None:
        self.versions.save("stack", write=True)
        self.deploy(version, *more)
        self.versions.commit(self.versions.changed())

    def now(self) -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_mode & 0o777) for path in self.etc.iterdir()}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path)
    made.deploy("v1")
    return made


def test_a_failed_change_is_undone_to_the_byte_and_its_new_files_are_gone(service):
    before = service.now()
    service.versions.save("stack", write=True)
    service.deploy("v2", "new.env")
    service.versions.restore(service.versions.pending, write=True)
    assert service.now() == before


def test_a_rollback_swaps_the_two_versions_and_a_second_one_swaps_them_back(service):
    first = service.now()
    service.update("v2", "new.env")
    second = service.now()
    for expected in (first, second, first):
        there = service.versions.rollback_target()
        service.versions.save("previous", write=True)
        service.versions.restore(there, write=True)
        service.versions.commit(shift=True)
        assert service.now() == expected


def test_a_run_that_is_cut_off_and_repeated_still_goes_back_to_what_served(service):
    before = service.now()
    service.versions.save("stack", write=True)
    service.deploy("v2")
    assert service.versions.save("stack", write=True) is False
    service.versions.restore(service.versions.pending, write=True)
    assert service.now() == before


def test_a_rollback_after_an_update_that_stopped_returns_to_what_was_before_it(service):
    service.update("v2")
    second = service.now()
    service.versions.save("stack", write=True)
    service.deploy("v3")
    service.versions.restore(service.versions.rollback_target(), write=True)
    assert service.now() == second


def test_a_rollback_that_is_cut_off_is_finished_and_not_reversed(service):
    first = service.now()
    service.update("v2")
    service.versions.save("previous", write=True)
    service.versions.restore(service.versions.rollback_target(), write=True)
    service.versions.save("previous", write=True)
    service.versions.restore(service.versions.rollback_target(), write=True)
    assert service.now() == first


def test_a_change_that_changed_nothing_leaves_the_version_before_as_it_was(service):
    service.update("v2")
    kept = service.versions.previous.read_bytes()
    service.update("v2")
    assert service.versions.previous.read_bytes() == kept
    assert not service.versions.pending.exists()


def test_a_host_on_which_nothing_changed_has_the_same_version_before_as_the_others(service):
    service.versions.save("stack", write=True)
    assert not service.versions.changed()
    service.versions.commit(shift=True)
    assert service.versions.rollback_target() == service.versions.previous
    assert service.versions.restore(service.versions.previous, write=True) == []


def test_looking_changes_nothing(service):
    before = service.now()
    service.versions.save("stack", write=False)
    assert not service.state.exists()
    service.update("v2")
    after = service.now()
    assert service.versions.restore(service.versions.previous, write=False) == [f"{service.etc}/a.service"]
    assert (service.now(), after != before) == (after, True)


def test_a_kept_version_is_whole_or_not_there_and_for_root_alone(service, monkeypatch):
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshots.os, "fchmod", cut_off)
    with pytest.raises(KeyboardInterrupt):
        service.versions.save("stack", write=True)
    monkeypatch.undo()
    assert list(service.state.iterdir()) == []
    service.versions.save("stack", write=True)
    assert service.versions.pending.stat().st_mode & 0o777 == 0o600
    assert json.loads(service.versions.pending.read_text())["goal"] == "stack"


NGINX = """upstream gateways {
    server 10.0.0.2:5000 max_fails=1 fail_timeout=1s;
    server 10.0.0.2:5001 max_fails=1 fail_timeout=1s down;
    server [fd00::1]:5000 max_fails=1 fail_timeout=1s;
}
server { server_name x; }
"""


def test_draining_marks_exactly_the_named_gateways_and_touches_no_other_line():
    text = nginx_drain.edited(NGINX, ["10.0.0.2:5000", "[fd00::1]:5000"])
    assert [line.split()[1] for line in text.splitlines() if line.endswith("down;")] == [
        "10.0.0.2:5000",
        "[fd00::1]:5000",
    ]
    assert nginx_drain.edited(text, ["10.0.0.2:5001"]) == NGINX
    assert "down" not in nginx_drain.edited(NGINX, [])


def test_the_units_of_a_version_are_known_before_it_is_restored(service):
    service.update("v2", "new.env")
    units = service.versions.units(service.versions.rollback_target())
    assert list(units) == ["a.service"]
    assert units["a.service"].startswith("v1 of a.service")
    assert service.versions.units(service.state / "none") == {}


def test_a_rollback_of_an_update_that_never_came_to_this_host_changes_nothing_here(service):
    service.update("v2")
    second = service.now()
    # What an update does on every host before it changes the first.
    service.versions.save("stack", write=True)
    service.versions.save("previous", write=True)
    assert service.versions.restore(service.versions.rollback_target(), write=True) == []
    service.versions.commit(shift=False)
    assert service.now() == second

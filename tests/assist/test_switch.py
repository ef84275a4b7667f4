"""A change that fails in a way that nobody foresaw is taken back as well, and a return that fails says how to go on."""

import io

import pytest
from rich.console import Console

from assist import playbook, snapshot, switch
from assist.deployment import resolve
from assist.paths import SOURCE, Paths
from assist.probe import NotServingError

PREPARED = playbook.Run(succeeded=True)


@pytest.fixture
def layout(tmp_path):
    layout = Paths(SOURCE, tmp_path / ".run")
    layout.previous.mkdir(parents=True)
    return layout


@pytest.fixture
def deployment(layout):
    return resolve("tiny", layout)


def broken(_tags: str) -> playbook.Run:
    raise OSError("no space left on device")


def test_one_command_has_the_lock_and_its_errors_are_its_own(layout):
    with snapshot.locked(layout) as first, snapshot.locked(layout) as second:
        assert (first, second) == (True, False)
    with pytest.raises(BlockingIOError), snapshot.locked(layout):
        raise BlockingIOError


def test_any_error_of_the_playbook_brings_back_what_served(deployment, monkeypatch):
    restored = []
    monkeypatch.setattr(snapshot, "restore", restored.append)
    with pytest.raises(OSError, match="no space"):
        switch._replace(deployment, PREPARED, broken, Console(file=io.StringIO()))
    assert restored == [deployment.layout]


def test_where_the_old_service_does_not_come_back_the_error_has_both_reasons_and_the_way_out(
    layout, monkeypatch
):
    def restore(_layout):
        raise NotServingError("triton: its model is gone")

    monkeypatch.setattr(snapshot, "restore", restore)
    with pytest.raises(NotServingError, match=r"interrupted; .* its model is gone.* make down, make up"):
        switch.recover(layout, Console(file=io.StringIO()))

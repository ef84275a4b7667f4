"""A withdrawn request is visible to every instance, and its file is removed."""

import pytest

from serving.backend import withdrawals
from serving.backend.requests import BadRequestError

NAME, OTHER = "0" * 31 + "1", "0" * 31 + "2"


@pytest.fixture
def instances(tmp_path, monkeypatch):
    monkeypatch.setattr(withdrawals, "_FOLDER", tmp_path)
    monkeypatch.setenv(withdrawals.PREFIX_VARIABLE, "assist_triton_8001_")
    return withdrawals.Withdrawals(), withdrawals.Withdrawals()


def test_another_instance_sees_what_one_was_told(instances, tmp_path):
    instance, other = instances
    withdrawn, untouched = other.check(NAME), other.check(OTHER)
    assert not withdrawn()
    instance.note(NAME)
    assert withdrawn()
    assert not untouched()
    (note,) = tmp_path.iterdir()
    assert note.name.startswith("assist_triton_8001_"), "the server's sweep removes what a killed one left"


def test_notes_go_with_time_and_with_the_instance(instances, tmp_path, monkeypatch):
    instance, _ = instances
    instance.note(NAME)
    monkeypatch.setattr(withdrawals, "_KEPT_S", 0.0)
    instance.note(OTHER)
    assert list(tmp_path.iterdir()) == []


def test_an_instance_takes_its_notes_along(instances, tmp_path):
    instance, _ = instances
    instance.note(NAME)
    instance.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "0" * 33, "A" * 32])
def test_a_name_that_is_none_is_refused(instances, name):
    instance, _ = instances
    with pytest.raises(BadRequestError, match="32 hexadecimal digits"):
        instance.note(name)
    with pytest.raises(BadRequestError, match="32 hexadecimal digits"):
        instance.check(name)


def test_a_request_without_a_name_is_never_withdrawn(instances):
    assert instances[0].check(None)() is False

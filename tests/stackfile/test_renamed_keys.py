"""A setting's former name works for one release, with one warning that names file, line, old and new key."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from stackfile import StackFileError, load_stack, renamed_keys
from stackfile.catalogue import ROOT
from stackfile.document import Location, dotted
from stackfile.renamed_keys import RENAMED

LOCAL = {"name": "s", "target": "local", "model": "tiny-codegen"}
GKE = {"zones": ["us-central1-a"], "deletion_protection": False, "endpoint": "public"}
CASES: dict[Location, tuple[dict[str, Any], Any]] = {
    ("limits", "hold_s"): (LOCAL, 3.0),
    ("jobs", "result_s"): (LOCAL, 11),
    ("jobs", "longest_s"): (LOCAL, 12),
    ("jobs", "parallel"): (LOCAL, 13),
    ("gke", "authorised_networks"): (LOCAL | {"target": "gke", "gke": GKE}, {"office": "192.0.2.0/24"}),
    ("hosts", "needs"): (LOCAL | {"target": "hosts"}, {"disk_gib": 9.0, "memory_gib": 2.0, "kernel": "6.1"}),
    ("hosts", "triton", "startup_s"): (LOCAL | {"target": "hosts"}, 14),
    ("kubernetes", "triton", "startup_s"): (LOCAL | {"target": "kubernetes"}, 15),
    ("kubernetes", "llama", "startup_s"): (
        LOCAL | {"target": "kubernetes", "model": "mistral-7b-instruct-Q2_K", "engine": {"kind": "openai"}},
        16,
    ),
    ("kubernetes", "loader", "wait_s"): (LOCAL | {"target": "kubernetes"}, 17),
}


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch):
    monkeypatch.setattr(renamed_keys, "_reported", set())


def write(folder: Path, stack: dict[str, Any], *settings: tuple[Location, Any]) -> Path:
    document = copy.deepcopy(stack)
    for location, value in settings:
        *parents, last = location
        at = document
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def at(stack: object, location: Location) -> Any:
    for part in location:
        stack = getattr(stack, str(part))
    return stack.model_dump(mode="json") if hasattr(stack, "model_dump") else stack


def line_of(file: Path, key: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if f"{key}:" in line)


def test_every_renamed_key_has_a_case():
    assert set(CASES) == set(RENAMED)


@pytest.mark.parametrize("old", CASES, ids=dotted)
def test_a_former_name_sets_what_the_new_one_sets_and_is_reported(tmp_path, caplog, old):
    stack, value = CASES[old]
    new = (*old[:-1], RENAMED[old])
    by_new_name = load_stack(write(tmp_path, stack, (new, value)))
    assert caplog.messages == []
    file = write(tmp_path, stack, (old, value))
    assert load_stack(file) == by_new_name
    found = at(by_new_name, new)
    assert {name: str(range_) for name, range_ in found.items()} == value if "gke" in old else found == value
    (message,) = caplog.messages
    assert message.startswith(
        f"{file}:{line_of(file, str(old[-1]))}: {dotted(old)} was renamed to {dotted(new)}"
    )
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("old", CASES, ids=dotted)
def test_a_setting_under_both_names_is_refused_with_the_remedy(tmp_path, old):
    stack, value = CASES[old]
    new = (*old[:-1], RENAMED[old])
    file = write(tmp_path, stack, (new, value), (old, value))
    with pytest.raises(StackFileError, match=rf"remove {dotted(old)}") as refused:
        load_stack(file)
    (problem,) = refused.value.problems
    assert (problem.line, problem.field) == (line_of(file, str(old[-1])), dotted(old))


def test_a_warning_is_given_once_however_often_a_file_is_read(tmp_path, caplog):
    file = write(tmp_path, LOCAL, (("jobs", "parallel"), 2))
    load_stack(file)
    load_stack(file)
    assert len(caplog.messages) == 1


def test_a_bad_value_under_a_former_name_is_reported_at_its_own_line(tmp_path):
    file = write(tmp_path, LOCAL, (("hosts",), {"needs": {"disk_gib": "4"}}), (("jobs", "parallel"), 0))
    with pytest.raises(StackFileError) as refused:
        load_stack(file)
    found = {problem.field: problem.line for problem in refused.value.problems}
    assert found["jobs.concurrency"] == line_of(file, "parallel")
    assert found["hosts.requirements.disk_gib"] == line_of(file, "disk_gib")


def test_the_stacks_in_the_repository_use_the_new_names(caplog):
    for file in sorted((ROOT / "stacks").glob("*.yaml")):
        if not file.name.startswith("Pulumi."):
            load_stack(file)
    assert caplog.messages == []


def test_a_tool_gets_the_warnings_by_its_own_function(tmp_path, monkeypatch, capfd):
    log = logging.getLogger("stackfile")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    shown: list[str] = []
    renamed_keys.send_warnings(shown.append)
    load_stack(write(tmp_path, LOCAL, (("jobs", "parallel"), 2)))
    assert len(shown) == 1
    assert "jobs.concurrency" in shown[0]
    assert capfd.readouterr().err == ""

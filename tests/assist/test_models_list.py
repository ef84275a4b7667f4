"""`assist models list`: memory, speed here, licence, and what is in the store."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from assist import speeds
from assist.cli import app
from assist.paths import Paths
from stackfile import catalogue


@pytest.fixture
def layout(tmp_path, monkeypatch):
    paths = Paths(home=tmp_path)
    monkeypatch.setattr("assist.models_list.Paths", lambda: paths)
    return paths


def listed(*options):
    done = CliRunner().invoke(app, ["models", "list", *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_model_has_its_weights_and_a_request_of_context_in_memory(layout):
    row = json.loads(listed("--json"))["tiny-codegen"]
    facts = catalogue.models()["tiny-codegen"]
    assert row["memory"]["context"] == facts.context_length
    assert row["memory"]["total_gib"] > min(facts.memory_gib.values())
    assert row["commercial"] is True
    assert (row["speed"], row["stored"], row["added"]) == (None, [], False)


def test_what_was_measured_and_stored_here_is_shown(layout):
    speeds.record(layout.speeds, "tiny-codegen", speeds.Speed(1234.5, "ctranslate2", "int8"))
    (layout.store / "tiny-codegen" / "1").mkdir(parents=True)
    row = json.loads(listed("--json"))["tiny-codegen"]
    assert row["speed"] == {"tokens_per_s": 1234.5, "runtime": "ctranslate2", "precision": "int8"}
    assert row["stored"] == ["1"]
    assert "1234.5" in listed()


def test_a_licence_that_forbids_commercial_use_says_so(layout):
    assert "(not commercial)" in listed()


def test_names_stay_whole_on_a_narrow_terminal(layout, monkeypatch):
    name = "qwen3-coder-30b-a3b-instruct-Q4_K_M"
    (layout.store / name / ("a" * 40)).mkdir(parents=True)
    monkeypatch.setattr("assist.models_list.out", Console(width=80))
    shown = listed()
    assert all(each in shown for each in catalogue.models())


def test_damaged_speeds_are_none(layout):
    layout.speeds.write_text('{"tiny-codegen": 3}')
    assert speeds.read(layout.speeds) == {}
    speeds.record(layout.speeds, "m", speeds.Speed(1.0, "llama_cpp", "Q4_1"))
    assert set(speeds.read(layout.speeds)) == {"m"}


def test_the_fastest_of_one_runtime_counts(layout):
    for speed, kept in ((5.0, 5.0), (9.0, 9.0), (7.0, 9.0)):
        speeds.record(layout.speeds, "m", speeds.Speed(speed, "llama_cpp", "Q4_1"))
        assert speeds.read(layout.speeds)["m"].tokens_per_s == kept
    speeds.record(layout.speeds, "m", speeds.Speed(2.0, "ctranslate2", "int8"))
    assert speeds.read(layout.speeds)["m"].tokens_per_s == 2.0

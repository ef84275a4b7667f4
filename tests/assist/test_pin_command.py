"""`assist models pin` against a hub on loopback: what the hub says ends in the catalogue, and only that."""

import json
import shutil
from hashlib import sha256

import pytest
import yaml
from typer.testing import CliRunner

from assist.cli import app
from stackfile import catalogue
from testing.doubles.hub import COMMIT, REPOSITORY, Answer, Hub

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "tokenizer.json": b'{"model": {}}'}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue.DIRECTORY, folder)
    file = folder / "models.yaml"
    file.write_text(file.read_text().replace("Salesforce/codegen-350M-mono", REPOSITORY))
    monkeypatch.setattr(catalogue, "DIRECTORY", folder)
    catalogue.models.cache_clear()
    yield file
    catalogue.models.cache_clear()


@pytest.fixture
def hub(monkeypatch):
    server = Hub(dict(FILES))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


def pin(*options):
    return CliRunner().invoke(app, ["models", "pin", "codegen-350M-mono", *options])


def test_a_pin_records_the_commit_and_every_checksum_that_the_hub_names(copy, hub):
    done = pin()
    assert done.exit_code == 0, done.output
    model = yaml.safe_load(copy.read_text())["models"]["codegen-350M-mono"]
    assert model["revision"] == COMMIT
    assert {file["path"]: (file["size"], file["sha256"]) for file in model["files"]} == {
        name: (len(data), sha256(data).hexdigest()) for name, data in FILES.items()
    }
    catalogue.models.cache_clear()
    assert catalogue.models()["codegen-350M-mono"].pinned


def test_a_second_pin_changes_nothing(copy, hub):
    pin()
    before = copy.read_bytes()
    done = pin()
    assert done.exit_code == 0, done.output
    assert copy.read_bytes() == before


def test_a_file_that_the_hub_lacks_is_named_and_the_catalogue_stays_as_it_was(copy, hub):
    del hub.files["tokenizer.json"]
    before = copy.read_bytes()
    done = pin()
    assert done.exit_code == 1
    assert "tokenizer.json" in done.output
    assert copy.read_bytes() == before


def test_shards_are_recorded_with_their_index(copy, hub):
    data = hub.files.pop("model.safetensors")
    shards = {f"model-0000{part}-of-00002.safetensors": data + bytes([part]) for part in (1, 2)}
    index = {"weight_map": {str(at): name for at, name in enumerate(shards)}}
    hub.files |= {**shards, "model.safetensors.index.json": json.dumps(index).encode()}
    done = pin()
    assert done.exit_code == 0, done.output
    model = yaml.safe_load(copy.read_text())["models"]["codegen-350M-mono"]
    assert {file["path"] for file in model["files"]} == set(hub.files)


def test_a_shard_that_is_missing_is_named(copy, hub):
    del hub.files["model.safetensors"]
    hub.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "model-1.safetensors"}}'
    done = pin()
    assert done.exit_code == 1
    assert "model-1.safetensors" in done.output


def test_the_newest_pull_request_with_safetensors_is_pinned_where_the_branch_has_pickles(copy, hub):
    weights = hub.files.pop("model.safetensors")
    hub.files["pytorch_model.bin"] = weights
    hub.pulls = {
        3: {**FILES, "model.safetensors": b"older" * 1000},
        12: dict(FILES),
        13: {"README.md": b"a typo less"},
    }
    done = pin()
    assert done.exit_code == 0, done.output
    assert "refs/pr/12" in done.output
    model = yaml.safe_load(copy.read_text())["models"]["codegen-350M-mono"]
    assert model["revision"] == f"{12:040x}"
    assert model["files"][1]["sha256"] == sha256(FILES["model.safetensors"]).hexdigest()


def test_pickled_weights_alone_are_pinned_as_such_and_what_that_takes_is_said(copy, hub):
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    hub.files["training_args.bin"] = b"no weights"
    done = pin()
    assert done.exit_code == 0, done.output
    assert "torch" in done.output
    model = yaml.safe_load(copy.read_text())["models"]["codegen-350M-mono"]
    assert model["format"] == "pickle"
    assert {file["path"] for file in model["files"]} == set(hub.files) - {"training_args.bin"}


def test_a_pickled_pin_gives_way_to_safetensors_once_the_hub_has_them(copy, hub):
    weights = hub.files.pop("model.safetensors")
    hub.files["pytorch_model.bin"] = weights
    pin()
    catalogue.models.cache_clear()
    hub.pulls = {4: dict(FILES)}
    assert "refs/pr/4" in pin().output
    model = yaml.safe_load(copy.read_text())["models"]["codegen-350M-mono"]
    assert (model["format"], model["revision"]) == ("safetensors", f"{4:040x}")


def test_pickles_that_are_no_weights_are_named_with_what_to_do(copy, hub):
    hub.files["training_args.bin"] = hub.files.pop("model.safetensors")
    before = copy.read_bytes()
    done = pin()
    assert done.exit_code == 1
    assert "training_args.bin" in done.output
    assert "assist models add" in done.output
    assert copy.read_bytes() == before


def test_a_dry_run_says_what_would_be_pinned_and_writes_nothing(copy, hub):
    before = copy.read_bytes()
    done = pin("--dry-run")
    assert done.exit_code == 0, done.output
    assert f"would be pinned to {COMMIT}" in done.output
    assert f"model.safetensors: {len(FILES['model.safetensors'])} bytes" in done.output
    assert copy.read_bytes() == before
    found = json.loads(pin("--dry-run", "--json").output)
    assert (found["status"], found["format"], found["revision"]) == ("would be pinned", "safetensors", COMMIT)
    assert copy.read_bytes() == before
    pin()
    assert json.loads(pin("--dry-run", "--json").output)["status"] == "already pinned"


def test_without_the_hub_it_says_which_files_to_get_and_how_to_record_them(copy, hub):
    hub.script = lambda _seen: Answer(status=503)
    before = copy.read_bytes()
    done = pin()
    assert done.exit_code == 1
    assert f"{hub.url}/{REPOSITORY}/resolve/main/model.safetensors" in done.output
    assert "assist models add FOLDER --name codegen-350M-mono" in done.output
    assert str(copy) in done.output.replace("\n", "")
    assert copy.read_bytes() == before

"""`assist models pin` against a hub on loopback: what the hub says ends in the catalogue, and only that."""

import shutil
from hashlib import sha256

import pytest
import yaml
from typer.testing import CliRunner

from assist.cli import app
from stackfile import catalogue
from testing.doubles.hub import COMMIT, REPOSITORY, Hub

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


def pin():
    return CliRunner().invoke(app, ["models", "pin", "codegen-350M-mono"])


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

"""`assist models add` and `remove`: from a file, a folder and a hub into the catalogue, and out again."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from assist.cli import app
from model_loader.cli import app as loader
from stackfile import StackFileError, catalogue
from stackfile.resolve import load_stack
from testing import small_gguf
from testing.doubles.hub import COMMIT, REPOSITORY, Answer, Hub
from testing.servers.triton import TINY
from tests.assist.added import own_catalogue

__all__ = ["own_catalogue"]
pytestmark = pytest.mark.usefixtures("own_catalogue")


def models(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert done.exit_code == code, done.output
    catalogue.models.cache_clear()
    return done.output


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return small_gguf.write(folder / "small-F16.gguf")


@pytest.fixture
def hub(monkeypatch, file):
    data = file.read_bytes() + bytes(3_000_000)
    server = Hub({"small-F16.gguf": data, "README.md": b"a model"})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


def test_a_file_is_added_and_can_be_fetched(file, own_catalogue, tmp_path):
    models("add", file)
    facts = catalogue.models()["small-F16"]
    assert facts.path == str(file.parent)
    assert facts.licence == "Apache-2.0"
    assert facts.commercial
    assert facts.files[0].sha256 == sha256(file.read_bytes()).hexdigest()
    store = tmp_path / "store"
    done = CliRunner().invoke(loader, ["fetch", "small-F16", "--store", str(store)])
    assert done.exit_code == 0, done.output
    assert (store / "small-F16" / "current" / file.name).read_bytes() == file.read_bytes()


def test_the_second_time_it_is_there_already(file, own_catalogue):
    models("add", file)
    before = own_catalogue.read_bytes()
    assert "already there" in models("add", file)
    assert own_catalogue.read_bytes() == before


def test_a_dry_run_prints_the_entry_and_writes_nothing(file, own_catalogue):
    said = models("add", file, "--dry-run")
    assert not own_catalogue.exists()
    entry = yaml.safe_load(said.partition("small-F16: would")[0])["models"]["small-F16"]
    models("add", file)
    assert yaml.safe_load(own_catalogue.read_text())["models"]["small-F16"] == entry


def test_json_has_the_entry(file):
    document = json.loads(models("add", file, "--name", "other", "--json"))
    assert (document["model"], document["status"]) == ("other", "added")
    assert (
        catalogue.ModelFacts.model_validate_json(json.dumps(document["entry"])) == catalogue.models()["other"]
    )


def test_another_file_of_the_same_name_needs_replace(file, own_catalogue):
    models("add", file)
    before = own_catalogue.read_bytes()
    small_gguf.write(file, special=("<|endoftext|>", "<more>"))
    assert "--replace" in models("add", file, code=1)
    assert own_catalogue.read_bytes() == before
    models("add", file, "--replace")
    assert own_catalogue.read_bytes() != before


def test_a_model_of_the_project_can_be_replaced_and_comes_back(file):
    own = catalogue.models()["tiny-codegen"]
    models("add", file, "--name", "tiny-codegen", code=1)
    models("add", file, "--name", "tiny-codegen", "--replace")
    assert catalogue.models()["tiny-codegen"].format == "gguf"
    models("remove", "tiny-codegen")
    assert catalogue.models()["tiny-codegen"] == own


def test_a_removed_model_leaves_nothing(file, own_catalogue):
    models("add", file)
    models("add", file, "--name", "second")
    assert "would be removed" in models("remove", "second", "--dry-run")
    assert "second" in catalogue.models()
    models("remove", "small-F16")
    assert {"second"} == set(yaml.safe_load(own_catalogue.read_text())["models"])
    assert json.loads(models("remove", "second", "--json"))["status"] == "removed"
    assert not own_catalogue.exists()
    assert "not in" in models("remove", "second", code=1)
    assert "project's own" in models("remove", "tiny-codegen", code=1)


def test_a_licence_that_nobody_names_must_be_given(tmp_path, own_catalogue):
    file = small_gguf.write(tmp_path / "m.gguf", licence=None)
    assert "--licence" in models("add", file, code=1)
    assert not own_catalogue.exists()
    assert "--licence" in models("add", file, "--licence", "unknown", code=1)
    models("add", file, "--licence", "mit")
    facts = catalogue.models()["m"]
    assert (facts.licence, facts.commercial) == ("MIT", True)
    assert facts.origin is not None
    assert facts.origin.licence == "user"


@pytest.mark.parametrize(
    ("name", "listed"), [("some-research-licence", None), ("QWEN-research", "qwen-research")]
)
def test_a_licence_whose_terms_forbid_or_are_not_known_must_be_accepted(tmp_path, name, listed):
    file = small_gguf.write(tmp_path / "m.gguf", licence=name)
    assert "accept_licence" in models("add", file)
    assert catalogue.models()["m"].licence == (listed or name)
    assert not catalogue.models()["m"].commercial
    models("add", file, "--commercial", "--replace")
    assert catalogue.models()["m"].commercial


@pytest.mark.parametrize("architecture", ["bert", "whisper", "Not An Architecture"])
def test_what_no_runtime_serves_is_refused(tmp_path, own_catalogue, architecture):
    file = small_gguf.write(tmp_path / "m.gguf", architecture)
    assert architecture in models("add", file, code=1)
    assert not own_catalogue.exists()


def test_a_damaged_file_is_refused(file, own_catalogue):
    file.write_bytes(file.read_bytes()[:-8])
    assert "cut off" in models("add", file, code=1)
    assert not own_catalogue.exists()


def test_a_name_that_the_store_refuses_is_refused(file):
    assert "--name" in models("add", file, "--name", "../x", code=1)


def test_a_folder_with_safetensors_has_the_facts_of_the_catalogue(tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    models("add", folder)
    added, own = catalogue.models()["tiny"], catalogue.models()["tiny-codegen"]
    assert {file.path: file.sha256 for file in added.files} == {file.path: file.sha256 for file in own.files}
    for field in ("architecture", "format", "context_length", "layers", "kv_width", "stop"):
        assert getattr(added, field) == getattr(own, field)
    assert set(added.memory_gib) == set(own.memory_gib)
    assert added.licence == "MIT"


def test_safetensors_that_no_runtime_converts_are_refused(tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "t5"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "'t5'" in models("add", folder, code=1)


@pytest.mark.parametrize(
    ("names", "reason"),
    [([], "neither"), (["pytorch_model.bin"], "pickled"), (["a.gguf", "b.gguf"], "choose one")],
)
def test_a_folder_without_one_model_says_what_it_has(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).write_bytes(b"0")
    assert reason in models("add", tmp_path, code=1)


def test_a_hub_s_file_is_added_from_its_header_alone(hub, own_catalogue):
    models("add", REPOSITORY)
    facts = catalogue.models()["small-F16"]
    assert (facts.repository, facts.revision) == (REPOSITORY, COMMIT)
    assert facts.files[0].sha256 == sha256(hub.files["small-F16.gguf"]).hexdigest()
    assert hub.sent < len(hub.files["small-F16.gguf"]) / 2


def test_a_hub_that_cannot_be_reached_leaves_other_ways(hub, own_catalogue):
    hub.script = lambda _seen: Answer(status=503)
    assert "HF_ENDPOINT" in models("add", REPOSITORY, code=1)
    assert not own_catalogue.exists()


def test_a_catalogue_that_cannot_be_written_is_named(file, own_catalogue, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied", str(own_catalogue))

    monkeypatch.setattr("assist.catalogue_writer.write_text", refuse)
    said = models("add", file, code=1).replace("\n", "")
    assert str(own_catalogue) in said
    assert not own_catalogue.exists()


def test_a_hub_with_several_files_needs_one_named(hub):
    hub.files["other.gguf"] = hub.files["small-F16.gguf"]
    assert "other.gguf" in models("add", REPOSITORY, code=1)
    assert "no file 'absent.gguf'" in models("add", f"{REPOSITORY}:absent.gguf", code=1)
    models("add", f"{REPOSITORY}:other.gguf")
    assert "other" in catalogue.models()


def test_the_card_s_licence_counts_where_the_file_has_none(hub, tmp_path):
    hub.files["bare.gguf"] = small_gguf.write(tmp_path / "bare.gguf", licence=None).read_bytes()
    models("add", f"{REPOSITORY}:bare.gguf", code=1)
    hub.card = {"license": "other", "license_name": "deepseek-model-license"}
    models("add", f"{REPOSITORY}:bare.gguf")
    facts = catalogue.models()["bare"]
    assert facts.licence == "deepseek-model-license"
    assert facts.restrictions is not None
    assert facts.origin is not None
    assert facts.origin.licence == "hub"


def test_a_hub_without_ranges_is_named(hub):
    hub.files["big.gguf"] = _with_a_long_header(hub.files["small-F16.gguf"])
    hub.script = lambda _seen: Answer(ignore_range=True)
    assert "only whole" in models("add", f"{REPOSITORY}:big.gguf", code=1)


def _with_a_long_header(data: bytes) -> bytes:
    """Insert a text of 2 MiB before the other keys."""
    key = (1).to_bytes(8, "little") + b"k" + (8).to_bytes(4, "little")
    text = (1 << 21).to_bytes(8, "little") + b" " * (1 << 21)
    keys = int.from_bytes(data[16:24], "little") + 1
    return data[:16] + keys.to_bytes(8, "little") + key + text + data[24:]


def test_what_is_no_source_is_named():
    assert "does not exist" in models("add", "./absent.gguf", code=1)


def test_a_file_of_this_machine_is_for_this_machine(file, tmp_path):
    models("add", file)
    stack = tmp_path / "mine.yaml"
    local = "name: mine\ntarget: local\nmodel: small-F16\naccelerator: {kind: cpu}\n"
    stack.write_text(local)
    assert load_stack(stack).model.id == "small-F16"
    stack.write_text(local.replace("local", "hosts"))
    with pytest.raises(StackFileError, match="on this machine"):
        load_stack(stack)


def test_an_installed_wheel_writes_into_the_user_s_folder(file, own_catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "_INSTALLED", catalogue.DIRECTORY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    models("add", file)
    assert "small-F16" in catalogue.models()
    assert (tmp_path / "config" / "ai-assist" / "models.yaml").is_file()
    assert not own_catalogue.exists()

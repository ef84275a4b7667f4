"""A hub whose model is pickled, from `assist models pin` to the converted variant; and what is refused before."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assist.cli import app
from model_loader import commands
from model_loader.conversion import ConversionFailed
from model_loader.errors import IntegrityError, PlanError
from model_loader.plan import WantedFile
from model_loader.sources.factory import make_sources
from model_loader.sources.transport import HttpOptions
from serving.convert import pickled
from stackfile import catalogue
from testing import needs, torch_environment
from testing.doubles.hub import REPOSITORY, Hub
from testing.servers.triton import TINY
from tests.model_loader.lab import Lab

MODEL = "codegen-350M-mono"
DOCUMENTS = {
    name: (TINY / name).read_bytes() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
}
CONVERSIONS = [("ctranslate2", "int8"), ("onnxruntime", "int8"), ("llama_cpp", "Q8_0")]


@pytest.fixture(autouse=True)
def own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the catalogue be a copy in which the model is the hub's."""
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue.DIRECTORY, folder)
    file = folder / "models.yaml"
    file.write_text(file.read_text().replace(f"Salesforce/{MODEL}", REPOSITORY))
    monkeypatch.setattr(catalogue, "DIRECTORY", folder)
    catalogue.models.cache_clear()
    yield
    catalogue.models.cache_clear()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """Give the small model's pickled files, by their number."""
    found = {}
    for shards in (1, 2):
        folder = tmp_path_factory.mktemp("weights")
        torch_environment.pickle_weights(TINY / "model.safetensors", folder, shards)
        found[shards] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


def pinned(hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files = DOCUMENTS | files
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    done = CliRunner().invoke(app, ["models", "pin", MODEL])
    assert done.exit_code == 0, done.output
    catalogue.models.cache_clear()


def fetched(lab: Lab, runtime: str | None, precision: str | None) -> None:
    plan = commands.plan_for(MODEL, None, None)
    sources = make_sources(None, MODEL, plan.revision, HttpOptions(stall_s=10.0), None, 4)
    commands.run_fetch(plan, sources, lab.run(deadline_s=300.0), (runtime, precision), dry_run=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "conversions"), [(1, CONVERSIONS[:1]), (2, CONVERSIONS)])
def test_a_pinned_pickle_is_served_as_the_same_bytes_as_safetensors(
    lab, weights, monkeypatch, shards, conversions
):
    needs.package("ctranslate2")
    needs.package("onnx")
    monkeypatch.setenv(pickled.VARIABLE, str(torch_environment.python()))
    pinned(lab.hub, weights[shards], monkeypatch)
    for conversion in conversions:
        fetched(lab, *conversion)
    home = lab.root / MODEL
    converted = {one: contents(home / f"current.{'-'.join(one)}") for one in conversions}
    pinned(lab.hub, {"model.safetensors": (TINY / "model.safetensors").read_bytes()}, monkeypatch)
    assert catalogue.models()[MODEL].format == "safetensors"
    shutil.rmtree(home)
    monkeypatch.setenv(pickled.VARIABLE, "/nowhere")
    for conversion in conversions:
        fetched(lab, *conversion)
        assert contents(home / f"current.{'-'.join(conversion)}") == converted[conversion]


@pytest.mark.slow
def test_a_malicious_pickle_is_stored_and_never_served(lab, tmp_path, monkeypatch):
    needs.package("ctranslate2")
    monkeypatch.setenv(pickled.VARIABLE, str(torch_environment.python()))
    file, marker = tmp_path / "pytorch_model.bin", tmp_path / "ran"
    torch_environment.run(torch_environment.MALICIOUS, file, marker)
    pinned(lab.hub, {file.name: file.read_bytes()}, monkeypatch)
    with pytest.raises(ConversionFailed, match=r"posix\.system"):
        fetched(lab, "ctranslate2", "int8")
    assert not marker.exists()
    assert not list((lab.root / MODEL).glob("*ctranslate2*"))
    assert not [path for path in (lab.root / ".staging").rglob("*") if path.is_file()]


def zipped(names: list[str]) -> dict[str, bytes]:
    return {name: b"PK\x03\x04" + name.encode() * 2000 for name in names}


def test_without_torch_nothing_is_fetched_and_the_remedy_is_named(lab, tmp_path, monkeypatch):
    needs.package("ctranslate2")
    pinned(lab.hub, zipped(["pytorch_model.bin"]), monkeypatch)
    monkeypatch.setenv(pickled.VARIABLE, str(tmp_path / "python"))
    before = len(lab.hub.seen)
    with pytest.raises(ConversionFailed, match=r"not fetched.*scripts/bootstrap"):
        fetched(lab, "ctranslate2", "int8")
    assert len(lab.hub.seen) == before
    assert not (lab.root / MODEL).exists()
    fetched(lab, None, None)
    assert (lab.root / MODEL / "current" / "pytorch_model.bin").is_file()


def test_pickled_weights_without_a_checksum_are_refused(lab):
    with pytest.raises(PlanError, match=r"needs a recorded sha256"):
        lab.fetch(lab.plan().__class__(MODEL, "v2", (WantedFile("pytorch_model.bin"),)), allow_unpinned=True)


def test_a_file_that_is_no_zip_is_refused_while_it_arrives(lab, monkeypatch):
    pinned(lab.hub, {"pytorch_model.bin": b"\x80\x02" * 9000}, monkeypatch)
    with pytest.raises(IntegrityError, match=r"pytorch_model\.bin.*since 1\.6"):
        fetched(lab, None, None)
    assert not (lab.root / MODEL).exists()


def test_the_index_and_its_shards_are_pinned_and_other_pickles_are_not(lab, monkeypatch):
    shards = zipped([f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)])
    index = json.dumps({"weight_map": {str(at): name for at, name in enumerate(shards)}}).encode()
    others = zipped(["training_args.bin", "optimizer.pt"])
    pinned(lab.hub, shards | others | {"pytorch_model.bin.index.json": index}, monkeypatch)
    facts = catalogue.models()[MODEL]
    assert facts.format == "pickle"
    assert {file.path for file in facts.files} == {*DOCUMENTS, *shards, "pytorch_model.bin.index.json"}

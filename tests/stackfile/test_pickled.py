"""A model with pickled weights only: what a stack of each target then needs, and nothing of it for any other."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from assist import preflight
from assist.bundle import contents
from assist.deployment import needed_locks, resolve
from assist.paths import Paths
from stackfile import catalogue, load_stack
from stackfile.catalogue import ModelFacts
from stackfile.kubernetes import LOADER_TORCH, Images
from stackfile.memory import Use
from tests.assist.hosts.test_role_vars import THREE, changed, facts

STACKS = catalogue.ROOT / "stacks"


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the tiny model's weights be a pickle."""
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue.DIRECTORY, folder)
    file = folder / "models.yaml"
    text = file.read_text().replace("format: safetensors", "format: pickle", 1)
    file.write_text(text.replace("path: model.safetensors", "path: pytorch_model.bin", 1))
    monkeypatch.setattr(catalogue, "DIRECTORY", folder)
    catalogue.models.cache_clear()
    yield
    catalogue.models.cache_clear()


def on_cluster(tmp_path: Path, change: Callable[[str], str] = str) -> Images:
    text = (STACKS / "kube-local.yaml").read_text().replace("name: kube-local", "name: other")
    file = tmp_path / "other.yaml"
    file.write_text(change(text))
    kubernetes = load_stack(file).kubernetes
    assert kubernetes is not None
    return kubernetes.images


@pytest.mark.usefixtures("pickled")
def test_up_and_hosts_make_the_environment_with_torch_and_bundles_bring_it():
    deployment = resolve("tiny", Paths())
    assert needed_locks(deployment.stack)["torch"] == ["torch.txt"]
    assert "torch.txt" in contents.of(deployment).locks


@pytest.mark.usefixtures("pickled")
def test_preflight_asks_for_the_disk_that_torch_takes(tmp_path):
    layout = dataclasses.replace(Paths(), home=tmp_path / "home")
    assert "6.1 needed" in preflight._disk(resolve("tiny", layout)).cause


@pytest.mark.usefixtures("pickled")
def test_hosts_with_gpus_get_the_environment_and_others_do_not(tmp_path):
    stack = changed(tmp_path, model="tiny-codegen")
    locks = {host: facts(THREE, host, stack)["release"]["locks"] for host in ("w", "g1")}
    assert locks["g1"]["torch"] == ["torch.txt"]
    assert "torch" not in locks["w"]


def test_no_other_model_brings_torch_along():
    deployment = resolve("tiny", Paths())
    assert "torch" not in needed_locks(deployment.stack)
    assert "torch.txt" not in contents.of(deployment).locks


@pytest.mark.usefixtures("pickled")
def test_a_cluster_takes_the_loader_with_torch_unless_the_stack_names_another(tmp_path):
    assert on_cluster(tmp_path).loader == LOADER_TORCH
    other = "\n  images: {loader: registry.example/mine:1}\n"
    images = on_cluster(tmp_path, lambda text: text.replace("\nkubernetes:\n", f"\nkubernetes:{other}", 1))
    assert images.loader == "registry.example/mine:1"


def test_a_cluster_takes_the_loader_without_torch_for_any_other_model(tmp_path):
    assert on_cluster(tmp_path) == Images()


@pytest.mark.parametrize(("model", "format_"), [("codegen-2B-multi", "pickle"), ("tiny-codegen", "gguf")])
def test_torch_is_part_of_a_loaders_memory_for_pickles_alone(model, format_):
    facts = catalogue.models()[model]
    use = Use(facts, "ctranslate2", "int8", context=2048, slots=1)
    other = Use(facts.model_copy(update={"format": format_}), "ctranslate2", "int8", context=2048, slots=1)
    assert (other.loader >= max(704, use.loader)) == (format_ == "pickle")


@pytest.mark.parametrize("change", [{"format": "pickle"}, {"files": ({"path": "pytorch_model.bin"},)}])
def test_an_entry_whose_format_is_not_that_of_its_weights_is_refused(change):
    entry = catalogue.models()["codegen-2B-multi"].model_dump() | change
    with pytest.raises(ValidationError, match="correct format or files"):
        ModelFacts.model_validate(entry)

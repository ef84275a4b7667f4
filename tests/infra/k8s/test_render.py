"""The manifests are what the components make today, are valid, and apply in the order of their names."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from infra import render
from stackfile import load_stack
from stackfile.catalogue import ROOT
from testing import tools

MANIFESTS = ROOT / "manifests"
FILES = sorted(file for file in MANIFESTS.rglob("*.yaml") if file.name != "kustomization.yaml")
# The test cluster's version; the schemas of the library reach further.
KUBERNETES = "1.36"
NO_ENGINE = tools.missing("pulumi", "pulumi-kubernetes")


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_ENGINE), reason=str(NO_ENGINE))
@pytest.mark.parametrize("folder", sorted(render.VARIANTS))
def test_the_committed_manifests_are_what_the_components_render(folder, tmp_path):
    render.render(load_stack(ROOT / f"stacks/{render.VARIANTS[folder]}.yaml"), tmp_path / "out")
    assert content(tmp_path / "out") == content(MANIFESTS / folder), (
        "run python -m infra.render and look at the diff"
    )


def test_there_is_a_folder_for_every_variant_and_for_nothing_else():
    folders = {str(file.parent.relative_to(MANIFESTS)) for file in FILES}
    assert folders == set(render.VARIANTS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_every_object_is_strictly_valid(file):
    kubernetes_validate.validate(yaml.safe_load(file.read_text()), KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", sorted(render.VARIANTS))
def test_the_kustomization_lists_every_file_and_every_image(folder):
    kustomization = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text())
    files = {file.name for file in (MANIFESTS / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    text = "".join((MANIFESTS / folder / name).read_text() for name in files)
    used = {line.split("image: ")[1] for line in text.splitlines() if " image: " in line}
    assert {f"{image['name']}:{image['newTag']}" for image in kustomization["images"]} == used


def test_what_others_lie_in_is_applied_first_and_no_secret_or_trace_of_pulumi_is_written():
    for folder in render.VARIANTS:
        names = sorted(file.name for file in (MANIFESTS / folder).glob("[0-9]*.yaml"))
        kinds = [yaml.safe_load((MANIFESTS / folder / name).read_text())["kind"] for name in names]
        assert kinds[0] == "Namespace"
        assert kinds.index("PersistentVolumeClaim") < kinds.index("Job")
        assert "Secret" not in kinds
    assert not any("pulumi" in file.read_text().lower() for file in FILES)


def test_a_stack_that_is_refused_leaves_the_old_manifests_alone(tmp_path, capsys):
    target, stack = tmp_path / "out", tmp_path / "bad.yaml"
    target.mkdir()
    (target / "kept.yaml").write_text("kept")
    stack.write_text("name: bad\ntarget: kubernetes\nmodel: nonesuch\n")
    assert render.main(["--stack", str(stack), "--to", str(target)]) == 1
    assert "is not in the catalogue" in capsys.readouterr().err
    assert (target / "kept.yaml").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_ENGINE), reason=str(NO_ENGINE))
def test_llama_cpp_on_gpus_is_rendered_with_its_image_by_digest(tmp_path):
    digest = f"sha256:{'a' * 64}"
    stack = {
        "name": "gpus",
        "target": "kubernetes",
        "model": "mistral-7b-instruct-Q4_K_M",
        "engine": {"kind": "openai"},
        "accelerator": {"kind": "rtx-3080", "count": 2, "split": "layers"},
        "kubernetes": {
            "images": {"llama_cuda": f"ghcr.io/ggml-org/llama.cpp@{digest}"},
            "llama": {"node_selector": {"gpu": "x"}},
        },
    }
    (tmp_path / "gpus.yaml").write_text(yaml.safe_dump(stack))
    render.render(load_stack(tmp_path / "gpus.yaml"), tmp_path / "out")
    kustomization = yaml.safe_load((tmp_path / "out/kustomization.yaml").read_text())
    name = "ghcr.io/ggml-org/llama.cpp"
    assert {"name": name, "newName": name, "digest": digest} in kustomization["images"]
    assert not any("triton" in image["name"] for image in kustomization["images"])
    for file in kustomization["resources"]:
        kubernetes_validate.validate(
            yaml.safe_load((tmp_path / "out" / file).read_text()), KUBERNETES, strict=True
        )
    (server,) = (tmp_path / "out").glob("*deployment-llama.yaml")
    assert "--tensor-split" in server.read_text()

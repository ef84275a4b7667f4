"""kube-score over the manifests: every finding that stays has its reason here, and none stays unused."""

from pathlib import Path

import pytest
import yaml

from infra import render
from stackfile.catalogue import ROOT
from tests.infra import kube_score
from tests.infra.k8s.test_checkov import NOT_LATEST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOADER = "Job/model-loader-job"
# By check: what it is about, and why that is as it should be.
KUBE_SCORE = {
    "container-image-pull-policy": (
        {"Deployment/gateway", "Deployment/triton", "Deployment/llama", LOADER},
        NOT_LATEST,
    ),
    "deployment-replicas": (
        {"Deployment/gateway", "Deployment/triton", "Deployment/llama"},
        "a second one would be a second GPU, or another 4 cores: the stack file says how many a site pays for",
    ),
    "deployment-strategy": (
        {"Deployment/triton"},
        "one GPU: its successor could never start beside it; the gateways hold requests meanwhile",
    ),
    "deployment-has-host-podantiaffinity": (
        {"Deployment/gateway"},
        "a ReadWriteOnce store keeps all on one node; where nodes are several, topology constraints spread them",
    ),
    "pod-probes": (
        {"Deployment/llama"},
        "llama.cpp answers /health behind the work: a busy model must not get its server killed",
    ),
}
# Controls that are taken away from the gateway's containers, and the check that must notice.
BROKEN = {
    "resources": {"container-resources", "container-ephemeral-storage-request-and-limit"},
    "securityContext": {"container-security-context-readonlyrootfilesystem"},
    "readinessProbe": {"pod-probes"},
}


def found(folder: Path) -> dict[str, set[str]]:
    """Return what fails, with the digest of what it runs taken from the loader's name."""
    failed = kube_score.scan(folder)
    return {
        check: {LOADER if name.startswith(LOADER) else name for name in names}
        for check, names in failed.items()
    }


def test_kube_score_finds_what_is_explained_and_nothing_else():
    together: dict[str, set[str]] = {}
    for folder in render.VARIANTS:
        for check, names in found(ROOT / "manifests" / folder).items():
            together.setdefault(check, set()).update(names)
    assert together == {check: names for check, (names, _) in KUBE_SCORE.items()}


@pytest.mark.parametrize("control", BROKEN)
def test_kube_score_notices_a_control_that_is_taken_away(tmp_path: Path, control: str):
    for file in (ROOT / "manifests/code-completion/cpu").glob("[0-9]*.yaml"):
        document = yaml.safe_load(file.read_text())
        if document["kind"] == "Deployment" and document["metadata"]["name"] == "gateway":
            for container in document["spec"]["template"]["spec"]["containers"]:
                del container[control]
        (tmp_path / file.name).write_text(yaml.safe_dump(document))
    failed = found(tmp_path)
    for check in BROKEN[control]:
        assert "Deployment/gateway" in failed[check]

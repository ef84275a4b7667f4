"""checkov over the manifests: every finding that stays has its reason here, and none stays unused."""

import shutil
from pathlib import Path

import pytest
import yaml

from stackfile.catalogue import ROOT
from tests.infra.checkov import scan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NOT_LATEST = (
    "a tag that is never moved, or a digest: asking the registry at each start would make it a dependency"
)
CHECKOV = {
    "CKV_K8S_15": NOT_LATEST,
    "CKV_K8S_43": "a digest exists only once a site has pushed its images; kustomize pins them then",
    "CKV_K8S_8": "llama.cpp answers /health behind the work: a busy model must not get its server killed",
}
# Controls that are taken away, and the check that must notice.
BROKEN = {
    "readOnlyRootFilesystem": "CKV_K8S_22",
    "allowPrivilegeEscalation": "CKV_K8S_20",
    "runAsUser": "CKV_K8S_40",
    "capabilities": "CKV_K8S_37",
}


def broken(control: str) -> str:
    """Return the gateway's Deployment without one control."""
    deployment = yaml.safe_load(
        (ROOT / "manifests/code-completion/cpu/3-deployment-gateway.yaml").read_text()
    )
    spec = deployment["spec"]["template"]["spec"]
    spec["securityContext"].pop(control, None)
    for container in [*spec["containers"], *spec["initContainers"]]:
        container["securityContext"].pop(control, None)
    return yaml.safe_dump(deployment)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the checks that fail by file; one run for all, because its start takes longest."""
    folder = tmp_path_factory.mktemp("scanned")
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    for control in BROKEN:
        (folder / f"broken-{control}.yaml").write_text(broken(control))
    results = scan(folder, "kubernetes")
    assert len(results["passed_checks"]) > 500, "it must have read the manifests"
    found: dict[str, set[str]] = {}
    for check in results["failed_checks"]:
        found.setdefault(check["file_path"].lstrip("/"), set()).add(check["check_id"])
    return found


def test_checkov_finds_what_is_explained_and_nothing_else(failed: dict[str, set[str]]):
    ours = {check for file, checks in failed.items() if file.startswith("manifests/") for check in checks}
    assert ours == set(CHECKOV)
    without_liveness = {Path(file).name for file, checks in failed.items() if "CKV_K8S_8" in checks}
    assert without_liveness == {"3-deployment-llama.yaml"}


@pytest.mark.parametrize("control", BROKEN)
def test_checkov_notices_a_control_that_is_taken_away(failed: dict[str, set[str]], control: str):
    assert BROKEN[control] in failed[f"broken-{control}.yaml"]

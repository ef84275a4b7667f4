"""checkov over what is asked of Google: every finding that stays has its reason here, and none stays unused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra.checkov import scan
from tests.infra.gcp import terraform
from tests.infra.gcp.recorder import deploy
from tests.infra.gcp.stacks import stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EVERYWHERE = {
    "CKV_GCP_12": "Dataplane V2 enforces NetworkPolicies; the add-on this asks for cannot be on beside it",
    "CKV_GCP_65": "needs a Workspace domain that we cannot know; no RBAC role is bound to a person, IAM decides",
    "CKV_GCP_66": "needs attestors of the user's own registry; images are pinned by digest by the policies",
    "CKV2_GCP_18": "a VPC without rules admits nothing from outside, and GKE makes the rules that its nodes need",
}
BY_NAME = {"CKV_GCP_20": "the endpoint has no address: it is reached by name and IAM, not from networks"}
AUTOPILOT = {
    "CKV_GCP_61": "flow logs are on at the subnetwork, and Autopilot's Dataplane V2 sees traffic within a node",
    "CKV_GCP_69": "Autopilot always runs the metadata server and refuses the setting",
}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "gke-dev": ({}, EVERYWHERE | BY_NAME),
    "gke-prod": ({}, EVERYWHERE | BY_NAME),
    "public": ({"endpoint": "public", "gpu_pool__driver": "none"}, EVERYWHERE),
    "private": ({"endpoint": "private"}, EVERYWHERE),
    "autopilot": ({"autopilot": True, "gpu_pool__spot": False}, EVERYWHERE | BY_NAME | AUTOPILOT),
}
# A control of ours each, and the check that must notice when it is gone.
BROKEN = {
    "enableShieldedNodes": (False, "CKV_GCP_71"),
    "enableLegacyAbac": (True, "CKV_GCP_7"),
    "privateClusterConfig": (None, "CKV_GCP_25"),
    "enableIntranodeVisibility": (False, "CKV_GCP_61"),
    "resourceLabels": (None, "CKV_GCP_21"),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the checks that fail, by file: one run for all plans, because its start takes longest."""
    folder = tmp_path_factory.mktemp("plans")
    for name, (changes, _) in VARIANTS.items():
        write(folder / f"{name}.json", name if name.startswith("gke-") else "gke-dev", changes, {})
    for key, (value, _) in BROKEN.items():
        write(folder / f"broken-{key}.json", "gke-dev", {}, {key: value})
    results = scan(folder, "terraform_plan")
    assert results["passed_checks"], "without a passed check nothing was read"
    found: dict[str, set[str]] = {file.name: set() for file in folder.iterdir()}
    for check in results["failed_checks"]:
        found[check["file_path"].lstrip("/")].add(check["check_id"])
    return found


def write(file: Path, name: str, changes: dict[str, Any], broken: dict[str, Any]) -> None:
    """Write a stack's plan; ``broken`` replaces inputs of its cluster, or removes them where None."""
    recorder, _ = deploy(stack(name, **changes))
    for one in recorder.resources:
        if one.typ == "gcp:container/cluster:Cluster":
            kept = {key: value for key, value in (one.inputs | broken).items() if value is not None}
            one.inputs.clear()
            one.inputs.update(kept)
    file.write_text(json.dumps(terraform.plan(recorder.resources)))


@pytest.mark.parametrize("name", VARIANTS)
def test_checkov_finds_exactly_what_has_a_reason_to_stay(failed, name):
    assert failed[f"{name}.json"] == set(VARIANTS[name][1])


@pytest.mark.parametrize("setting", BROKEN)
def test_a_control_that_is_taken_away_is_noticed(failed, setting):
    (_, check) = BROKEN[setting]
    assert check in failed[f"broken-{setting}.json"]
    assert check not in failed["gke-dev.json"]

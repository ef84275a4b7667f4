"""The gke section is refused where GKE would refuse it, or where a setting would reach nothing."""

import copy
from typing import Any

import pytest
import yaml

from stackfile import StackFileError, load_stack
from stackfile.catalogue import ROOT

GOOD: dict[str, Any] = {
    "name": "s",
    "target": "gke",
    "model": "codegen-350M-mono",
    "accelerator": {"kind": "t4"},
    "gke": {"zones": ["us-central1-a", "us-central1-b"], "deletion_protection": False},
}


def loaded(tmp_path, **changes: object):
    """Load GOOD with changes given as ``gke__gpu_pool__driver="none"``."""
    stack = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = stack
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    file = tmp_path / f"{stack['name']}.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in stack.items() if value is not None}))
    return load_stack(file)


def refusal(tmp_path, **changes: object) -> str:
    with pytest.raises(StackFileError) as refused:
        loaded(tmp_path, **changes)
    return "\n".join(str(problem) for problem in refused.value.problems)


def test_a_small_section_resolves_to_a_pool_of_0_to_5_gpu_nodes_in_the_first_zones_region(tmp_path):
    gke = loaded(tmp_path).gke
    assert (gke.gpu_pool.min_nodes, gke.gpu_pool.max_nodes) == (0, 5)
    assert (gke.location, gke.region) == ("us-central1-a", "us-central1")


def test_a_regional_control_plane_and_autopilot_stand_in_the_region(tmp_path):
    assert loaded(tmp_path, gke__control_plane="regional").gke.location == "us-central1"
    assert loaded(tmp_path, gke__autopilot=True).gke.location == "us-central1"


def test_an_unquoted_yaml_time_is_read_as_a_time(tmp_path):
    gke = load_stack(ROOT / "stacks/gke-prod.yaml").gke
    assert gke is not None
    assert gke.maintenance.start.isoformat() == "2026-01-03T02:00:00+00:00"


def test_deletion_protection_has_no_default(tmp_path):
    assert "gke.deletion_protection: is missing" in refusal(tmp_path, gke={"zones": ["us-central1-a"]})


def test_target_gke_needs_the_section_and_other_targets_refuse_it(tmp_path):
    assert "gke: is missing" in refusal(tmp_path, gke=None)
    assert "applies to target: gke only" in refusal(tmp_path, target="kubernetes")


def test_a_misspelt_key_of_an_optional_section_gets_a_suggestion(tmp_path):
    assert "did you mean 'gpu_pool'?" in refusal(tmp_path, gke__gpu_pol={})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "a-name-that-is-much-too-long"}, "more than 24 characters"),
        ({"gke__zones": ["us-central1-a", "europe-west4-a"]}, "keep the zones of one"),
        ({"gke__zones": ["us-central1-a", "us-central1-a"]}, "has a duplicate zone"),
        ({"gke__zones": ["us-central1"]}, "gke.zones.0"),
        ({"gke__release_channel": "none"}, "is required without a release channel"),
        ({"gke__version": "1.33"}, "to pin the version, set release_channel: none"),
        ({"gke__maintenance": {"end": "2026-01-03T03:00:00Z"}}, "GKE requires at least 4 h"),
        ({"gke__endpoint": "public"}, "no client could reach a public endpoint"),
        ({"gke__authorized_networks": {"office": "192.0.2.0/24"}}, "where IAM decides"),
        (
            {"gke__endpoint": "public", "gke__authorized_networks": {"all": "0.0.0.0/0"}},
            "to the whole internet",
        ),
        ({"gke__network": {"services": "10.84.1.0/24"}}, "overlaps pods"),
        ({"gke__network": {"control_plane": "172.16.0.0/27"}}, "exactly a /28"),
        ({"gke__gpu_pool": {"max_nodes": 0}}, "could not hold a pod"),
        ({"gke__cpu_pool": {"min_nodes": 4}}, "could not hold a pod"),
        ({"gke__gpu_pool": {"generations": [2, 1]}}, "must be in ascending order"),
        ({"gke__gpu_pool": {"driver": "daemonset"}}, "pin a version of branch 580"),
        ({"gke__gpu_pool": {"driver_version": "580.95.05"}}, "has no effect on driver: gke"),
        (
            {"accelerator": {"kind": "cpu"}, "gke__gpu_pool": {"spot": True}},
            "has no effect on accelerator cpu",
        ),
        ({"gke__autopilot": True, "gke__cpu_pool": {"spot": True}}, "Autopilot, which sizes nodes"),
        (
            {"gke__autopilot": True, "gke__release_channel": "none", "gke__version": "1.33"},
            "must be a channel on Autopilot",
        ),
    ],
)
def test_a_setting_that_gke_would_refuse_or_ignore_is_refused_with_the_remedy(tmp_path, changes, says):
    assert says in refusal(tmp_path, **changes)

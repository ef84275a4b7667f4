"""Every setting of the gke section changes something that is registered: a setting nobody reads is a defect."""

from datetime import UTC, datetime
from ipaddress import IPv4Network

import pytest
from pydantic import BaseModel

from stackfile.gke import Gke
from tests.infra.gcp.recorder import deploy
from tests.infra.gcp.stacks import stack

# Another value for each leaf, and what must be set with it to be looked at.
OTHER = {
    "zones": ("us-central1-f", "us-central1-a"),
    "deletion_protection": True,
    "control_plane": "regional",
    "release_channel": "rapid",
    "version": "1.33.5-gke.100",
    "maintenance__start": datetime(2026, 1, 3, 1, tzinfo=UTC),
    "maintenance__end": datetime(2026, 1, 3, 9, tzinfo=UTC),
    "maintenance__recurrence": "FREQ=DAILY",
    "network__nodes": IPv4Network("10.70.0.0/20"),
    "network__pods": IPv4Network("10.72.0.0/14"),
    "network__services": IPv4Network("10.76.0.0/20"),
    "network__control_plane": IPv4Network("172.16.70.0/28"),
    "endpoint": "private",
    "authorized_networks": {"office": IPv4Network("192.0.2.0/24")},
    "autopilot": True,
    "cpu_pool__machine_type": "e2-standard-2",
    "cpu_pool__min_nodes": 2,
    "cpu_pool__max_nodes": 7,
    "cpu_pool__spot": True,
    "cpu_pool__disk_gib": 77,
    "gpu_pool__machine_type": "n1-standard-8",
    "gpu_pool__min_nodes": 2,
    "gpu_pool__max_nodes": 7,
    "gpu_pool__spot": False,
    "gpu_pool__disk_gib": 77,
    "gpu_pool__driver": "none",
    "gpu_pool__driver_version": "570.1.2",
    "gpu_pool__generations": (1, 2),
}
COMPANIONS = {
    "authorized_networks": {"endpoint": "public"},
    "gpu_pool__driver_version": {"gpu_pool__driver": "daemonset"},
}
BEFORE = {"gpu_pool__driver_version": {"gpu_pool__driver_version": "580.1.2"}}


def leaves(kind: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, f"{prefix}{name}__")
        else:
            found.append(prefix + name)
    return found


def registered(**changes):
    recorder, outputs = deploy(stack(**changes))
    inputs = {f"{one.typ}:{one.name}": one.inputs for one in recorder.resources}
    options = {name: (one.protect, one.ignore_changes) for name, one in recorder.options.items()}
    return inputs, options, outputs


def test_the_list_of_values_covers_every_setting_and_invents_none():
    assert set(OTHER) == set(leaves(Gke))


@pytest.mark.parametrize("setting", leaves(Gke))
def test_a_setting_reaches_a_resource(setting):
    companions = COMPANIONS.get(setting, {})
    before = registered(**companions | BEFORE.get(setting, {}))
    assert registered(**companions | {setting: OTHER[setting]}) != before


def test_the_accelerator_and_its_count_reach_the_gpu_pool():
    service = stack()
    two = service.accelerator.model_copy(update={"count": 2})
    pools = deploy(service.model_copy(update={"accelerator": two}))[0].of("container/nodePool")
    assert pools["gke-dev-gpu-g1"]["nodeConfig"]["guestAccelerators"][0]["count"] == 2


@pytest.mark.parametrize(
    ("pinned", "nodes"), [("1.33.4-gke.100", "1.33.4-gke.100"), ("1.33", "1.33.5-gke.1080000"), (None, None)]
)
def test_nodes_have_a_whole_version_as_google_stores_no_other(pinned, nodes):
    channel = {} if pinned is None else {"release_channel": "none", "version": pinned}
    pools = deploy(stack(**channel))[0].of("container/nodePool").values()
    assert {pool.get("version") for pool in pools} == {nodes}

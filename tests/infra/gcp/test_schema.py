"""What we ask for is held against the provider's own schema, without an update."""

from pathlib import Path
from typing import Any

import pytest

from stackfile import load_stack
from stackfile.catalogue import ROOT
from testing.gcp.double import missing
from tests.infra.gcp import schema
from tests.infra.gcp.recorder import deploy
from tests.infra.gcp.stacks import stack

pytestmark = [pytest.mark.gcp, pytest.mark.timeout(600)]

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "private endpoint, pinned version, installer": {
        "endpoint": "private",
        "release_channel": "none",
        "version": "1.33.5-gke.100",
        "gpu_pool__driver": "daemonset",
        "gpu_pool__driver_version": "580.95.05",
    },
    "public endpoint, no driver": {"endpoint": "public", "gpu_pool__driver": "none"},
    "autopilot": {"autopilot": True, "gpu_pool__spot": False},
}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if reason := missing():
        pytest.skip(reason)
    return schema.of_provider(tmp_path_factory.mktemp("schema"))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("name", ["gke-dev", "gke-prod"])
def test_the_provider_knows_every_input_by_name_type_and_value(provider, name, changes):
    resources = [one for one in deploy(stack(name, **changes))[0].resources if one.typ.startswith("gcp:")]
    assert len(resources) >= 10
    found = [line for one in resources for line in schema.findings(provider, one.typ, one.inputs)]
    assert found == []


@pytest.mark.parametrize(
    ("inputs", "finding"),
    [
        ({"autoscalling": {}}, "container/nodePool.autoscalling is unknown"),
        ({"autoscaling": {"maxNodes": 5}}, "container/nodePool.autoscaling.maxNodes is unknown"),
        ({"nodeConfig": {"spot": "yes"}}, "container/nodePool.nodeConfig.spot is not a boolean"),
        (
            {"nodeConfig": {"taints": [{"key": "a"}]}},
            "container/nodePool.nodeConfig.taints[0].effect is missing",
        ),
        ({"nodeLocations": "us-central1-a"}, "container/nodePool.nodeLocations is not a list"),
    ],
)
def test_a_wrong_input_is_found(provider, inputs, finding):
    kind = "gcp:container/nodePool:NodePool"
    found = [line.replace(kind, "container/nodePool") for line in schema.findings(provider, kind, inputs)]
    assert finding in found


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("file", sorted(Path(ROOT / "stacks").glob("gke-*.yaml")), ids=lambda file: file.stem)
def test_what_a_gpu_pool_asks_for_is_what_the_catalogue_says_gke_offers(file, count):
    service = load_stack(file)
    device = service.accelerator.model_copy(update={"count": count})
    pools = deploy(service.model_copy(update={"accelerator": device}))[0].of("container/nodePool")
    node = pools[f"{service.name}-gpu-g{service.gke.gpu_pool.generations[-1]}"]["nodeConfig"]
    assert service.accelerator.gke is not None
    assert count in service.accelerator.gke.gpus_per_node
    (asked,) = node["guestAccelerators"]
    assert (asked["type"], asked["count"]) == (service.accelerator.gke.accelerator, count)
    family = service.accelerator.gke.machine_type.partition("-")[0]
    assert node["machineType"].startswith(f"{family}-"), "GKE attaches a T4 to machines of its family alone"

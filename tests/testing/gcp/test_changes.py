"""A change is made in place, or by a new resource, or is none; and which of two stands first."""

import copy

import pytest

from testing.gcp.provider import Call
from testing.gcp.values import UNKNOWN
from tests.testing.gcp.world import ABSENT, World, changed, kind

LABELS = {"app": "ai-assist"}
T4 = [{"type": "nvidia-tesla-t4", "count": 1}]
WIDER = [
    {"rangeName": "pods", "ipCidrRange": "10.84.0.0/14"},
    {"rangeName": "services", "ipCidrRange": "10.88.0.0/20"},
]


def compare(world, title, before, after, ignored=()):
    """Return the difference between a resource as made and as asked for then."""
    world.make(title, **before)
    asked = changed(title, **(before | after)) | {"__defaults": []}
    return world.provider.diff(
        Call(kind(title), "it"),
        before=changed(title, **before),
        state=world.outputs[title],
        asked=asked,
        ignored=list(ignored),
    )


NEW = {
    "a network's kind": ("Network", {"autoCreateSubnetworks": True}),
    "a network's description": ("Network", {"description": "other"}),
    "a subnetwork's region": ("Subnetwork", {"region": "us-east1"}),
    "a smaller range": ("Subnetwork", {"ipCidrRange": "10.80.0.0/21"}),
    "a range elsewhere": ("Subnetwork", {"ipCidrRange": "10.96.0.0/20"}),
    "a NAT's router": ("RouterNat", {"router": "other"}),
    "an account's name": ("Account", {"accountId": "other-account"}),
    "a grant's role": ("IAMMember", {"role": "roles/viewer"}),
    "a cluster's place": ("Cluster", {"location": "us-central1"}),
    "a cluster's network": ("Cluster", {"network": "other"}),
    "a control plane's range": (
        "Cluster",
        {"privateClusterConfig": {"masterIpv4CidrBlock": "172.16.0.0/28"}},
    ),
    "a cluster's ranges for pods": ("Cluster", {"ipAllocationPolicy__clusterSecondaryRangeName": "other"}),
    "Autopilot": ("Cluster", {"enableAutopilot": True}),
    "a cluster's dataplane": ("Cluster", {"datapathProvider": "ADVANCED_DATAPATH"}),
    "a pool's spot": ("NodePool", {"nodeConfig__spot": True}),
    "a pool's accelerator": ("NodePool", {"nodeConfig__guestAccelerators": T4}),
    "a pool's account": ("NodePool", {"nodeConfig__serviceAccount": "default"}),
    "a cluster that is not made yet": ("NodePool", {"cluster": UNKNOWN}),
    "a bucket's place": ("Bucket", {"location": "europe-west4"}),
    "a secret's content": ("SecretVersion", {"secretData": "second"}),
    "a repository's format": ("Repository", {"format": "PYTHON"}),
    "a Filestore's tier": ("Instance", {"tier": "ZONAL"}),
}
IN_PLACE = {
    "a network's routing": ("Network", {"routingMode": "GLOBAL"}),
    "a larger range that holds the old one": ("Subnetwork", {"ipCidrRange": "10.80.0.0/19"}),
    "a range more": (
        "Subnetwork",
        {"secondaryIpRanges": [*WIDER, {"rangeName": "more", "ipCidrRange": "10.96.0.0/20"}]},
    ),
    "a NAT's log": ("RouterNat", {"logConfig": {"enable": True, "filter": "ALL"}}),
    "an account's title": ("Account", {"displayName": "Nodes"}),
    "a cluster's channel": ("Cluster", {"releaseChannel": {"channel": "RAPID"}}),
    "a cluster's protection": ("Cluster", {"deletionProtection": True}),
    "a cluster's labels": ("Cluster", {"resourceLabels": LABELS}),
    "private nodes": ("Cluster", {"privateClusterConfig": {"enablePrivateNodes": True}}),
    "a pool's limits": ("NodePool", {"autoscaling__totalMaxNodeCount": 7}),
    "a pool's machines": ("NodePool", {"nodeConfig__machineType": "n1-standard-8"}),
    "a pool's labels": ("NodePool", {"nodeConfig__labels": LABELS}),
    "a bucket's class": ("Bucket", {"storageClass": "NEARLINE"}),
    "a version's state": ("SecretVersion", {"enabled": False}),
    "a larger Filestore": ("Instance", {"fileShares__capacityGb": 2048}),
}


@pytest.mark.parametrize(("title", "after"), NEW.values(), ids=NEW.keys())
def test_what_cannot_change_makes_a_new_resource(tmp_path, title, after):
    found = compare(World(tmp_path).before(title), title, {}, after)
    assert found.replaces == [next(iter(after)).partition("__")[0]]


@pytest.mark.parametrize(("title", "after"), IN_PLACE.values(), ids=IN_PLACE.keys())
def test_what_can_change_is_changed_in_place(tmp_path, title, after):
    world = World(tmp_path).before(title)
    found = compare(world, title, {}, after)
    assert found.changes
    assert found.replaces == []
    world.update(title, **after)
    key, value = next(iter(after.items()))
    if "__" not in key and not isinstance(value, dict | list):
        assert world.outputs[title][key] == value


@pytest.mark.parametrize(
    "title", ["Network", "Subnetwork", "Router", "Account", "Cluster", "NodePool", "Bucket", "Instance"]
)
def test_what_nobody_changed_differs_in_nothing(tmp_path, title):
    assert compare(World(tmp_path, labels=LABELS).before(title), title, {}, {}).changes == ()


@pytest.mark.parametrize(
    ("title", "before", "after"),
    [
        (
            "Subnetwork",
            {},
            {"network": "https://www.googleapis.com/compute/v1/projects/demo-project/global/networks/net"},
        ),
        (
            "Cluster",
            {"nodeLocations": ["us-central1-b", "us-central1-c"]},
            {"nodeLocations": ["us-central1-c", "us-central1-b"]},
        ),
        ("NodePool", {"nodeConfig__oauthScopes": ["a", "b"]}, {"nodeConfig__oauthScopes": ["b", "a"]}),
        ("NodePool", {}, {"management": {"autoUpgrade": True, "autoRepair": True}}),
        ("Network", {}, {"mtu": 0}),
    ],
    ids=[
        "an address for a name",
        "zones in another order",
        "scopes in another order",
        "a default, said",
        "zero for nothing",
    ],
)
def test_the_same_said_in_another_way_differs_in_nothing(tmp_path, title, before, after):
    world = World(tmp_path).before(title)
    if title == "Subnetwork":
        before = {"network": "projects/demo-project/global/networks/net"}
    assert compare(world, title, before, after).changes == ()


def test_a_setting_that_is_taken_back_is_a_change(tmp_path):
    found = compare(
        World(tmp_path).before("NodePool"),
        "NodePool",
        {"nodeConfig__labels": LABELS},
        {"nodeConfig__labels": ABSENT},
    )
    assert [(one.path, one.verb) for one in found.changes] == [("nodeConfig.labels.app", "delete")]


def test_what_is_to_be_ignored_differs_in_nothing(tmp_path):
    after = {"nodeConfig__spot": True, "autoscaling__totalMaxNodeCount": 7}
    found = compare(World(tmp_path).before("NodePool"), "NodePool", {}, after, ignored=["nodeConfig"])
    assert [one.path for one in found.changes] == ["autoscaling.totalMaxNodeCount"]


def test_a_replacement_deletes_first_where_the_name_is_fixed_and_after_where_pulumi_chose_it(tmp_path):
    world = World(tmp_path).before("NodePool")
    assert compare(world, "NodePool", {}, {"nodeConfig__spot": True}).delete_first
    call, inputs = Call(kind("NodePool"), "pool"), changed("NodePool", name=ABSENT)
    first, _ = world.provider.check(call, {}, inputs, b"first")
    _, state = world.provider.create(call, first)
    wanted = copy.deepcopy(inputs)
    wanted["nodeConfig"]["spot"] = True
    asked, _ = world.provider.check(call, first, wanted, b"second")
    found = world.provider.diff(call, before=first, state=state, asked=asked, ignored=[])
    assert found.replaces == ["nodeConfig"]
    assert not found.delete_first


def test_another_project_or_region_of_the_provider_makes_everything_new(tmp_path):
    world = World(tmp_path).before("Router")
    world.make("Router", region=ABSENT)
    for where in ({"project": "other-project"}, {"region": "us-east1"}):
        moved = World(tmp_path, **where)
        found = moved.provider.diff(
            Call(kind("Router"), "it"),
            before=changed("Router", region=ABSENT),
            state=world.outputs["Router"],
            asked=changed("Router", region=ABSENT),
            ignored=[],
        )
        assert found.replaces == list(where)


def test_the_providers_labels_reach_what_has_labels(tmp_path):
    world = World(tmp_path, labels=LABELS).before("Cluster")
    found = compare(world, "Cluster", {"resourceLabels": {"stack": "x"}}, {})
    assert found.changes == ()
    made = world.outputs["Cluster"]
    assert made["resourceLabels"] == {"stack": "x"}
    assert made["pulumiLabels"] == LABELS | {"stack": "x"}
    assert made["effectiveLabels"] == LABELS | {"stack": "x", "goog-pulumi-provisioned": "true"}

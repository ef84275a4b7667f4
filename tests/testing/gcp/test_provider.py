"""The names that Pulumi makes up, what a preview knows, what a refresh sees, and lookups."""

import pytest

from testing.gcp.cloud import GoogleError
from testing.gcp.provider import Call, ProviderError
from testing.gcp.values import UNKNOWN
from tests.testing.gcp.world import ABSENT, CLUSTER_ID, World, changed, kind

POOL = Call(kind("NodePool"), "gpu")


def test_a_name_that_is_not_given_is_the_programs_with_a_suffix_and_stays(tmp_path):
    provider = World(tmp_path).provider
    unnamed = changed("NodePool", name=ABSENT)
    first, _ = provider.check(POOL, {}, unnamed, b"seed")
    again, _ = provider.check(POOL, first, unnamed, b"other seed")
    new, _ = provider.check(POOL, {}, unnamed, b"other seed")
    assert first["name"].startswith("gpu-")
    assert len(first["name"]) == len("gpu-") + 7
    assert again["name"] == first["name"] != new["name"]


def test_a_name_with_no_room_for_the_suffix_is_refused(tmp_path):
    call = Call(kind("NodePool"), "p" * 33)
    _, findings = World(tmp_path).provider.check(call, {}, changed("NodePool", name=ABSENT))
    assert [one.path for one in findings] == ["name"]


def test_a_type_that_the_double_does_not_know_is_refused_with_the_place_to_add_it(tmp_path):
    with pytest.raises(ProviderError, match=r"does not know gcp:sql/databaseInstance.*testing/gcp/kinds"):
        World(tmp_path).provider.check(Call("gcp:sql/databaseInstance:DatabaseInstance", "db"), {}, {})


def test_a_preview_checks_what_it_knows_and_takes_what_it_does_not(tmp_path):
    provider = World(tmp_path).provider
    waiting = changed("NodePool", cluster=UNKNOWN, nodeConfig__serviceAccount=UNKNOWN)
    assert provider.check(POOL, {}, waiting)[1] == []
    wrong = changed("NodePool", cluster=UNKNOWN, nodeConfig__diskSizeGb=1)
    assert [one.path for one in provider.check(POOL, {}, wrong)[1]] == ["nodeConfig.diskSizeGb"]


def test_a_preview_makes_nothing_and_says_what_only_google_will_know(tmp_path):
    world = World(tmp_path)
    private = {"privateClusterConfig": {"enablePrivateNodes": True}}
    planned = world.provider.plan(Call(kind("Cluster"), "c"), changed("Cluster", **private))
    assert (planned["name"], planned["project"]) == ("c", "demo-project")
    assert planned["endpoint"] is planned["selfLink"] is planned["nodePools"] is UNKNOWN
    assert planned["privateClusterConfig"] == {
        "enablePrivateNodes": True,
        "privateEndpoint": UNKNOWN,
        "publicEndpoint": UNKNOWN,
    }
    assert world.cloud.calls() == []


def test_a_refresh_sees_the_same_where_nothing_happened(tmp_path):
    world = World(tmp_path).before("Bucket")
    for title in ("Network", "Subnetwork", "Router", "RouterNat", "Account", "IAMMember", "Service"):
        inputs = changed(title)
        outputs, read = world.provider.read(
            Call(kind(title), "it"), world.ids[title], world.outputs[title], inputs
        )
        assert read == inputs
        # A policy's etag changes with every grant of anybody.
        assert outputs | {"etag": 0} == world.outputs[title] | {"etag": 0}


def test_a_refresh_reports_a_clusters_pools_as_google_does(tmp_path):
    world = World(tmp_path).before("Bucket")
    made = world.outputs["Cluster"]
    outputs, inputs = world.provider.read(Call(kind("Cluster"), "c"), CLUSTER_ID, made, changed("Cluster"))
    assert (made["nodePools"], [one["name"] for one in outputs["nodePools"]]) == ([], ["pool"])
    assert outputs["nodeConfig"]["machineType"] == "n1-standard-4"
    assert inputs == changed("Cluster")


def test_a_refresh_sees_what_was_changed_or_deleted_by_hand(tmp_path):
    world = World(tmp_path).before("Bucket")
    pool = world.ids["NodePool"]
    with world.cloud.transaction() as state:
        state.all(POOL.kind)[pool]["autoscaling"]["totalMaxNodeCount"] = 9
    outputs, inputs = world.provider.read(POOL, pool, world.outputs["NodePool"], changed("NodePool"))
    assert outputs["autoscaling"]["totalMaxNodeCount"] == inputs["autoscaling"]["totalMaxNodeCount"] == 9
    with world.cloud.transaction() as state:
        state.remove(POOL.kind, pool)
    assert world.provider.read(POOL, pool, outputs, inputs) is None


def test_an_import_finds_the_inputs_that_a_program_needs(tmp_path):
    world = World(tmp_path).before("Bucket")
    _, inputs = world.provider.read(POOL, world.ids["NodePool"], {}, {})
    assert inputs == {
        "cluster": CLUSTER_ID,
        "name": "pool",
        "location": "us-central1-a",
        "project": "demo-project",
    }


def test_every_call_is_in_the_log_with_its_answer(tmp_path):
    world = World(tmp_path)
    world.make("Service")
    world.make("Network", name="net")
    assert "409" in world.refusal("Network", name="net")
    found = [
        (one["method"], one["type"].rpartition(":")[2], one["name"], one["status"])
        for one in world.cloud.calls()
    ]
    assert found == [
        ("Create", "Service", "it", 200),
        ("Create", "Network", "net", 200),
        ("Create", "Network", "it", 409),
    ]


def test_lookups_answer_from_the_cloud(tmp_path):
    world = World(tmp_path).before("NodePool")
    provider = world.provider
    assert provider.invoke("gcp:organizations/getProject:getProject", {})["projectId"] == "demo-project"
    assert provider.invoke("gcp:organizations/getClientConfig:getClientConfig", {})["region"] == "us-central1"
    cluster = {"name": "c", "location": "us-central1-a"}
    assert provider.invoke("gcp:container/getCluster:getCluster", cluster)["id"] == CLUSTER_ID
    versions = provider.invoke("gcp:container/getEngineVersions:getEngineVersions", {"versionPrefix": "1.33"})
    assert [one.startswith("1.33.") for one in versions["validMasterVersions"]] == [True]


@pytest.mark.parametrize(
    ("token", "inputs", "fault"),
    [
        ("gcp:container/getCluster:getCluster", {"name": "other", "location": "us-central1-a"}, "Error 404"),
        ("gcp:container/getEngineVersions:getEngineVersions", {"location": "moon"}, "does not exist"),
        ("gcp:container/getEngineVersions:getEngineVersions", {"versionPrefix": "1.24"}, "No version"),
        ("gcp:compute/getZones:getZones", {}, "does not know the lookup"),
    ],
)
def test_a_lookup_of_what_does_not_exist_is_refused(tmp_path, token, inputs, fault):
    with pytest.raises((GoogleError, ProviderError), match=fault):
        World(tmp_path).provider.invoke(token, inputs)

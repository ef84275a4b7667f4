"""What exists stands in the way of what would contradict it, and goes only as Google lets it go."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.gcp import faults
from testing.gcp.cloud import GoogleError, open_gate
from testing.gcp.kinds.identity import policy_of, set_policy
from testing.gcp.kinds.secret_manager import access
from testing.gcp.provider import ProviderError
from testing.until import until
from tests.testing.gcp.world import ABSENT, CLUSTER_ID, NODES, PROJECT, VALID, World, kind

T4 = {"nodeConfig__guestAccelerators": [{"type": "nvidia-tesla-t4", "count": 1}]}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}


@pytest.fixture
def cluster(tmp_path):
    """Return a world with a cluster and no pool."""
    return World(tmp_path).before("NodePool")


@pytest.mark.parametrize(
    ("used", "by"),
    [
        ("Network", "Subnetwork"),
        ("Network", "Router"),
        ("Network", "Cluster"),
        ("Subnetwork", "Cluster"),
        ("Network", "Instance"),
    ],
)
def test_what_is_in_use_cannot_be_deleted(tmp_path, used, by):
    world = World(tmp_path).before(by)
    world.make(by)
    with world.cloud.transaction() as state:
        for token in VALID:
            if token not in {kind(used), kind(by)}:
                state.all(token).clear()
    with pytest.raises(GoogleError, match=f"already being used by '.*{world.ids[by]}") as refused:
        world.delete(used)
    assert refused.value.reason == "resourceInUseByAnotherResource"


def test_a_range_that_a_cluster_uses_cannot_be_taken_from_its_subnetwork(cluster):
    with pytest.raises(GoogleError, match="range pods is in use"):
        cluster.update("Subnetwork", secondaryIpRanges=[])


def test_a_router_takes_its_nats_with_it(tmp_path):
    world = World(tmp_path).before("Account")
    world.delete("Router")
    with world.cloud.transaction() as state:
        assert state.all(kind("RouterNat")) == {}


def test_a_second_nat_for_all_subnetworks_of_a_network_is_refused(tmp_path):
    world = World(tmp_path).before("RouterNat")
    world.make("RouterNat")
    assert "covers all subnetworks" in world.refusal("RouterNat", name="other")


def test_a_bucket_with_objects_is_deleted_only_by_force(tmp_path):
    world = World(tmp_path).before("Secret")
    with pytest.raises(GoogleError, match="not empty"):
        world.delete("Bucket")
    world.delete("Bucket", forceDestroy=True)
    with world.cloud.transaction() as state:
        assert state.all(kind("Bucket")) == state.all(kind("BucketObject")) == {}


def test_a_secrets_versions_are_numbered_and_a_number_never_comes_back(tmp_path):
    world = World(tmp_path).before("SecretVersion")
    first = world.make("SecretVersion")
    world.delete("SecretVersion")
    second = world.make("SecretVersion", secretData="second")
    assert (first.rpartition("/")[2], second.rpartition("/")[2]) == ("1", "2")
    with world.cloud.transaction() as state:
        assert access(state, second) == "second"
        with pytest.raises(GoogleError, match="Error 404"):
            access(state, first)


def test_a_version_that_is_deleted_by_disabling_stays_and_answers_nobody(tmp_path):
    world = World(tmp_path).before("SecretVersion")
    version = world.make("SecretVersion", deletionPolicy="DISABLE")
    world.delete("SecretVersion")
    with world.cloud.transaction() as state, pytest.raises(GoogleError, match="DISABLED"):
        access(state, version)


def test_a_basic_filestore_does_not_shrink(tmp_path):
    world = World(tmp_path).before("Instance")
    world.make("Instance", fileShares__capacityGb=2048)
    with pytest.raises(GoogleError, match="cannot shrink"):
        world.update("Instance", fileShares__capacityGb=1024)


@pytest.mark.parametrize(
    ("title", "protection"),
    [
        ("Cluster", {"deletionProtection": True}),
        ("Secret", {"deletionProtection": True}),
        ("Network", {"deletionPolicy": "PREVENT"}),
    ],
)
def test_what_is_protected_is_not_deleted(tmp_path, title, protection):
    world = World(tmp_path).before(title)
    world.make(title, **protection)
    with pytest.raises(ProviderError, match="cannot destroy"):
        world.delete(title)
    world.delete(title, deletionProtection=False, deletionPolicy="DELETE")


def test_a_cluster_is_protected_where_nothing_is_said(tmp_path):
    world = World(tmp_path).before("Cluster")
    world.make("Cluster", deletionProtection=ABSENT)
    with pytest.raises(ProviderError, match="deletionProtection is true"):
        world.delete("Cluster")


def test_a_filestore_that_google_protects_is_not_deleted(tmp_path):
    world = World(tmp_path).before("Instance")
    world.make("Instance", deletionProtectionEnabled=True)
    with pytest.raises(GoogleError, match="deletion protection"):
        world.delete("Instance")


def test_what_is_abandoned_stays_at_google(tmp_path):
    world = World(tmp_path).before("Network")
    network = world.make("Network", deletionPolicy="ABANDON")
    world.delete("Network")
    with world.cloud.transaction() as state:
        assert state.find(kind("Network"), network)


def test_the_default_pool_is_there_unless_it_is_removed(tmp_path):
    kept = World(tmp_path / "kept").before("Cluster")
    kept.make("Cluster", removeDefaultNodePool=ABSENT)
    assert kept.pool("default-pool")["nodeCount"] == 1
    removed = World(tmp_path / "removed").before("NodePool")
    assert removed.outputs["Cluster"]["nodePools"] == []


def test_a_cluster_takes_its_pools_with_it(cluster):
    cluster.make("NodePool")
    cluster.delete("Cluster")
    with cluster.cloud.transaction() as state:
        assert state.all(kind("NodePool")) == {}


@pytest.mark.parametrize(
    ("first", "then", "fault"),
    [("1.34", "1.33", "downgraded"), ("1.32", "1.34", "one minor version at a time")],
)
def test_a_control_plane_goes_up_by_one_minor_version_and_never_down(tmp_path, first, then, fault):
    world = World(tmp_path).before("Cluster")
    world.make("Cluster", minMasterVersion=first, releaseChannel={"channel": "UNSPECIFIED"})
    with pytest.raises(GoogleError, match=fault):
        world.update("Cluster", minMasterVersion=then, releaseChannel={"channel": "UNSPECIFIED"})


def test_a_control_plane_upgrades_in_place(tmp_path):
    world = World(tmp_path).before("Cluster")
    world.make("Cluster", minMasterVersion="1.33", releaseChannel={"channel": "UNSPECIFIED"})
    world.update("Cluster", minMasterVersion="1.34", releaseChannel={"channel": "UNSPECIFIED"})
    assert world.outputs["Cluster"]["masterVersion"].startswith("1.34.")


def test_gke_taints_gpu_nodes_beside_others_and_only_there(cluster):
    cluster.make("NodePool", **T4, name="alone")
    assert cluster.outputs["NodePool"]["nodeConfig"]["effectiveTaints"] == []
    cluster.make("NodePool", name="cpu")
    cluster.make("NodePool", **T4, name="beside")
    assert cluster.outputs["NodePool"]["nodeConfig"]["effectiveTaints"] == [TAINT]
    assert "taints" not in cluster.outputs["NodePool"]["nodeConfig"]


def test_a_gpu_taint_that_is_declared_is_there_once(cluster):
    cluster.make("NodePool", name="cpu")
    cluster.make("NodePool", **T4, nodeConfig__taints=[TAINT], name="declared")
    assert cluster.outputs["NodePool"]["nodeConfig"]["effectiveTaints"] == [TAINT]


def test_a_cluster_does_one_operation_at_a_time_and_the_second_pool_waits(cluster):
    faults.write(cluster.cloud, {"method": "Create", "name": "first", "hold": "operation", "gate": "g"})
    with ThreadPoolExecutor() as pool:
        first = pool.submit(cluster.make, "NodePool", name="first")
        until(lambda: "first" in names(cluster))
        second = pool.submit(cluster.make, "NodePool", name="second")
        until(lambda: any(call["reason"] == "failedPrecondition" for call in calls(cluster, "second")))
        assert "second" not in names(cluster)
        open_gate(cluster.cloud.folder, "g")
        assert (first.result(), second.result()) == tuple(
            f"{CLUSTER_ID}/nodePools/{one}" for one in ("first", "second")
        )
    assert calls(cluster, "second")[-1]["status"] == 200


@pytest.mark.parametrize("title", ["NodePool", "Cluster"])
def test_nothing_is_deleted_while_its_cluster_is_busy(cluster, title):
    cluster.make("NodePool", name="old")
    faults.write(cluster.cloud, {"method": "Create", "name": "first", "hold": "operation", "gate": "g"})
    with ThreadPoolExecutor() as pool:
        first = pool.submit(cluster.make, "NodePool", name="first")
        until(lambda: "first" in names(cluster))
        with cluster.cloud.transaction() as state, pytest.raises(GoogleError, match="incompatible operation"):
            cluster.provider.kind(kind(title)).delete(state, cluster.ids[title], {})
        open_gate(cluster.cloud.folder, "g")
        first.result()


def names(world):
    with world.cloud.transaction() as state:
        return [one["name"] for one in state.all(kind("NodePool")).values()]


def calls(world, name):
    return [call for call in world.cloud.calls() if call["name"] == name]


def test_a_policy_is_set_only_by_who_has_read_its_last_version(tmp_path):
    world = World(tmp_path)
    with world.cloud.transaction() as state:
        stale = policy_of(state, PROJECT)
        fresh = policy_of(state, PROJECT)
        fresh["bindings"]["roles/viewer"] = ["user:a@example.com"]
        set_policy(state, PROJECT, fresh)
        with pytest.raises(GoogleError, match="concurrent policy changes") as refused:
            set_policy(state, PROJECT, stale)
    assert refused.value.code == 409


def test_a_grant_that_another_one_overtakes_is_made_again_on_what_that_left(tmp_path):
    world = World(tmp_path).before("IAMMember")
    overtaken = {"method": "SetIamPolicy", "name": "roles/a", "nth": 1, "hold": "call", "gate": "g"}
    faults.write(world.cloud, overtaken)
    grant = threading.Thread(target=world.make, args=("IAMMember",), kwargs={"role": "roles/a"})
    grant.start()
    until(lambda: held(world))
    world.make("IAMMember", role="roles/b")
    open_gate(world.cloud.folder, "g")
    grant.join()
    with world.cloud.transaction() as state:
        member = [f"serviceAccount:{NODES}"]
        assert policy_of(state, PROJECT)["bindings"] == {"roles/a": member, "roles/b": member}
    assert [call["status"] for call in calls(world, "roles/a") if call["method"] == "SetIamPolicy"] == [
        409,
        200,
    ]


def held(world):
    with world.cloud.transaction() as state:
        return list(state.document["faults"]["held"])


def test_a_deleted_accounts_grants_stay_under_a_name_that_nobody_has(tmp_path):
    world = World(tmp_path).before("Cluster")
    world.delete("Account")
    with world.cloud.transaction() as state:
        (members,) = policy_of(state, PROJECT)["bindings"].values()
    assert members == [f"deleted:serviceAccount:{NODES}?uid={world.outputs['Account']['uniqueId']}"]


@pytest.mark.parametrize(("asked", "left"), [(None, True), (False, True), (True, False)])
def test_an_api_stays_enabled_unless_it_is_to_be_disabled(tmp_path, asked, left):
    world = World(tmp_path)
    world.make("Service", **({} if asked is None else {"disableOnDestroy": asked}))
    world.delete("Service")
    with world.cloud.transaction() as state:
        assert ("container.googleapis.com" in state.document["services"]) is left

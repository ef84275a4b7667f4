"""The double refuses what Google and its provider refuse: one case for each rule, one change of a valid resource."""

import pytest

from tests.testing.gcp.world import ABSENT, NODES, VALID, World

LONG = "a" * 64
T4 = {"type": "nvidia-tesla-t4", "count": 1}
PRIVATE = {"enablePrivateNodes": True, "masterIpv4CidrBlock": "172.16.80.0/28"}
WINDOW = {"startTime": "2026-01-03T02:00:00Z", "endTime": "2026-01-03T08:00:00Z", "recurrence": "FREQ=DAILY"}


def window(**changes):
    return {"maintenancePolicy": {"recurringWindow": WINDOW | changes}}


# type, changes, what the refusal names
CASES = {
    # inputs against the SDK's types
    "an unknown property": ("NodePool", {"autoscalling": {}}, "autoscalling: NodePool has no property"),
    "an unknown property deep inside": ("NodePool", {"autoscaling__maxNodes": 5}, "autoscaling.maxNodes"),
    "a wrong type": ("Cluster", {"enableShieldedNodes": "yes"}, "enableShieldedNodes: expected a boolean"),
    "a wrong type in a list": (
        "Subnetwork",
        {"secondaryIpRanges": ["x"]},
        "secondaryIpRanges[0]: expected an object",
    ),
    "a number for a string": ("Cluster", {"location": 1}, "location: expected a string"),
    "a boolean for a number": ("NodePool", {"nodeCount": True}, "nodeCount: expected an integer"),
    "a string for a list": ("NodePool", {"nodeLocations": "us-central1-a"}, "nodeLocations: expected a list"),
    "a missing property": ("NodePool", {"cluster": ABSENT}, "cluster: missing required property"),
    "a missing property deep inside": (
        "NodePool",
        {"nodeConfig__taints": [{"key": "a", "effect": "NO_SCHEDULE"}]},
        "nodeConfig.taints[0].value: missing required property",
    ),
    # names
    "a network's name in capitals": ("Network", {"name": "Net"}, "name: expected a match"),
    "a network's name of 64 characters": ("Network", {"name": LONG}, "name: expected a match"),
    "a subnetwork's name that ends with a hyphen": ("Subnetwork", {"name": "sub-"}, "name: expected a match"),
    "a range's name with an underscore": (
        "Subnetwork",
        {"secondaryIpRanges": [{"rangeName": "my_pods", "ipCidrRange": "10.84.0.0/14"}]},
        "secondaryIpRanges[0].rangeName",
    ),
    "a router's name that begins with a digit": ("Router", {"name": "1router"}, "name: expected a match"),
    "a NAT's name with a dot": ("RouterNat", {"name": "n.at"}, "name: expected a match"),
    "an account's name of 5 characters": ("Account", {"accountId": "nodes"}, "accountId: expected a match"),
    "an account's name of 31 characters": ("Account", {"accountId": "n" * 31}, "accountId: expected a match"),
    "a cluster's name of 41 characters": ("Cluster", {"name": "c" * 41}, "name: expected a match"),
    "a pool's name of 41 characters": ("NodePool", {"name": "p" * 41}, "name: expected a match"),
    "a bucket's name in capitals": ("Bucket", {"name": "Models"}, "name: expected a match"),
    "a bucket's name of 2 characters": ("Bucket", {"name": "mo"}, "name: expected a match"),
    "a bucket's name of 64 characters": ("Bucket", {"name": LONG}, "63 characters"),
    "a bucket's name with google in it": ("Bucket", {"name": "my-google-models"}, "reserved"),
    "a secret's name with a dot": ("Secret", {"secretId": "my.keys"}, "secretId: expected a match"),
    "a repository's name with an underscore": ("Repository", {"repositoryId": "my_images"}, "repositoryId"),
    "a store's name in capitals": ("Instance", {"name": "Store"}, "name: expected a match"),
    # networks
    "a routing mode that does not exist": (
        "Network",
        {"routingMode": "LOCAL"},
        "routingMode: expected one of",
    ),
    "an MTU that is too small": ("Network", {"mtu": 100}, "mtu: expected 1300 to 8896"),
    "a subnetwork without its network": ("Subnetwork", {"network": "other"}, "Error 404"),
    "a subnetwork in a region that does not exist": (
        "Subnetwork",
        {"region": "us-central"},
        "Unknown region",
    ),
    "a range with bits beside its mask": ("Subnetwork", {"ipCidrRange": "10.80.0.1/20"}, "ipCidrRange"),
    "a range smaller than /29": ("Subnetwork", {"ipCidrRange": "10.80.0.0/30"}, "smaller than /29"),
    "ranges that overlap": ("Subnetwork", {"ipCidrRange": "10.84.0.0/20"}, "conflicts with pods"),
    "two ranges of one name": (
        "Subnetwork",
        {"secondaryIpRanges": [{"rangeName": "a", "ipCidrRange": f"10.{n}.0.0/16"} for n in (90, 91)]},
        "duplicate range names",
    ),
    "a sampling above one": ("Subnetwork", {"logConfig": {"flowSampling": 1.5}}, "logConfig.flowSampling"),
    "a router without its network": ("Router", {"network": "other"}, "Error 404"),
    "a NAT without its router": ("RouterNat", {"router": "other"}, "Error 404"),
    "a NAT with addresses by hand and none given": (
        "RouterNat",
        {"natIpAllocateOption": "MANUAL_ONLY"},
        "MANUAL_ONLY needs natIps",
    ),
    "a NAT for listed subnetworks without a list": (
        "RouterNat",
        {"sourceSubnetworkIpRangesToNat": "LIST_OF_SUBNETWORKS"},
        "go together",
    ),
    # who
    "an API that is none of Google's": ("Service", {"service": "container"}, "service: expected a match"),
    "a member without its kind": ("IAMMember", {"member": NODES}, "member: expected one of user"),
    "a role that is a word": ("IAMMember", {"role": "reader"}, "role: expected a match"),
    "a member who does not exist": (
        "IAMMember",
        {"member": "serviceAccount:nobody@demo-project.iam.gserviceaccount.com"},
        "does not exist",
    ),
    # clusters
    "a cluster without its network": ("Cluster", {"network": "other"}, 'other" does not exist'),
    "a cluster without its subnetwork": (
        "Cluster",
        {"subnetwork": "other"},
        'other" does not exist in network',
    ),
    "a cluster in a place that does not exist": ("Cluster", {"location": "us-central1-d"}, "does not exist"),
    "nodes in another region": ("Cluster", {"nodeLocations": ["us-east1-b"]}, "not a zone of us-central1"),
    "nodes in the cluster's own zone, listed": ("Cluster", {"nodeLocations": ["us-central1-a"]}, "own zone"),
    "a range of pods that the subnetwork does not have": (
        "Cluster",
        {"ipAllocationPolicy__clusterSecondaryRangeName": "others"},
        'Secondary range "others" does not exist',
    ),
    "one range for pods and services": (
        "Cluster",
        {"ipAllocationPolicy__clusterSecondaryRangeName": "services"},
        "cannot share",
    ),
    "a control plane's range that is no /28": (
        "Cluster",
        {"privateClusterConfig": PRIVATE | {"masterIpv4CidrBlock": "172.16.80.0/24"}},
        "masterIpv4CidrBlock: expected a range of /28",
    ),
    "a control plane's range among the nodes": (
        "Cluster",
        {"privateClusterConfig": PRIVATE | {"masterIpv4CidrBlock": "10.80.0.0/28"}},
        "overlaps",
    ),
    "private nodes without ranges for pods": (
        "Cluster",
        {"privateClusterConfig": PRIVATE, "ipAllocationPolicy": ABSENT},
        "VPC-native",
    ),
    "a private endpoint open to nobody in particular": (
        "Cluster",
        {"privateClusterConfig": PRIVATE | {"enablePrivateEndpoint": True}},
        "masterAuthorizedNetworksConfig",
    ),
    "an authorised network that is a name": (
        "Cluster",
        {"masterAuthorizedNetworksConfig": {"cidrBlocks": [{"cidrBlock": "office"}]}},
        "not a range of addresses",
    ),
    "another project's workload pool": (
        "Cluster",
        {"workloadIdentityConfig": {"workloadPool": "other.svc.id.goog"}},
        "Workload pool",
    ),
    "a release channel that does not exist": (
        "Cluster",
        {"releaseChannel": {"channel": "SLOW"}},
        "expected one of",
    ),
    "version 1.24": ("Cluster", {"minMasterVersion": "1.24"}, '"1.24" is unsupported'),
    "a version that is a word": ("Cluster", {"minMasterVersion": "newest"}, '"newest" is unsupported'),
    "a node version beside a removed default pool": (
        "Cluster",
        {"nodeVersion": "1.34"},
        "nodeVersion can only be specified",
    ),
    "a cluster with no nodes at all": ("Cluster", {"initialNodeCount": ABSENT}, "greater than zero"),
    "an account for the nodes that does not exist": (
        "Cluster",
        {"nodeConfig": {"serviceAccount": "nobody@demo-project.iam.gserviceaccount.com"}},
        "does not exist",
    ),
    "two network policies": (
        "Cluster",
        {"datapathProvider": "ADVANCED_DATAPATH", "networkPolicy": {"enabled": True}},
        "NetworkPolicy",
    ),
    "Dataplane V2 with routes": (
        "Cluster",
        {"datapathProvider": "ADVANCED_DATAPATH", "networkingMode": "ROUTES"},
        "VPC-native",
    ),
    "a maintenance time without a zone": (
        "Cluster",
        window(startTime="2026-01-03T02:00:00"),
        "startTime: expected",
    ),
    "a maintenance window of three hours": ("Cluster", window(endTime="2026-01-03T05:00:00Z"), "4 hours"),
    "maintenance once a week": ("Cluster", window(recurrence="FREQ=WEEKLY"), "48 hours"),
    "a recurrence by the year": ("Cluster", window(recurrence="FREQ=YEARLY"), "is not FREQ=DAILY"),
    "a label in capitals": ("Cluster", {"resourceLabels": {"App": "x"}}, "Invalid label"),
    "Autopilot in a zone": (
        "Cluster",
        {"enableAutopilot": True, "initialNodeCount": ABSENT, "removeDefaultNodePool": ABSENT},
        "must be regional",
    ),
    "Autopilot outside every channel": (
        "Cluster",
        {
            "enableAutopilot": True,
            "removeDefaultNodePool": ABSENT,
            "location": "us-central1",
            "releaseChannel": {"channel": "UNSPECIFIED"},
        },
        "release channel",
    ),
    "Autopilot with a default pool removed": (
        "Cluster",
        {"enableAutopilot": True},
        "removeDefaultNodePool conflicts with enableAutopilot",
    ),
    "Autopilot with shielded nodes": (
        "Cluster",
        {"enableAutopilot": True, "removeDefaultNodePool": ABSENT, "enableShieldedNodes": True},
        "enableShieldedNodes conflicts with enableAutopilot",
    ),
    # node pools
    "a pool without its cluster": (
        "NodePool",
        {"cluster": "other", "location": "us-central1-a"},
        "Error 404",
    ),
    "fewer nodes at most than at least": (
        "NodePool",
        {"autoscaling__totalMinNodeCount": 6},
        "is greater than",
    ),
    "no node at most": ("NodePool", {"autoscaling__totalMaxNodeCount": 0}, "must be at least 1"),
    "more nodes than GKE makes": ("NodePool", {"autoscaling__totalMaxNodeCount": 1001}, "greater than 1000"),
    "less than no node": ("NodePool", {"autoscaling__totalMinNodeCount": -1}, "expected at least 0"),
    "limits per zone and in total": ("NodePool", {"autoscaling__maxNodeCount": 3}, "per zone or total"),
    "more nodes first than at most": ("NodePool", {"initialNodeCount": 6}, "initialNodeCount (6) is greater"),
    "a location policy that does not exist": (
        "NodePool",
        {"autoscaling__locationPolicy": "SOME"},
        "autoscaling.locationPolicy: expected one of",
    ),
    "a pool in another region": ("NodePool", {"nodeLocations": ["us-east1-b"]}, "not a zone of us-central1"),
    "a pool that does not upgrade in a channel": (
        "NodePool",
        {"management": {"autoUpgrade": False, "autoRepair": True}},
        "Auto_upgrade must be true when release channel REGULAR is set",
    ),
    "a pool that is not repaired in a channel": (
        "NodePool",
        {"management": {"autoRepair": False}},
        "Auto_repair",
    ),
    "an upgrade that can move no node": (
        "NodePool",
        {"upgradeSettings": {"strategy": "SURGE", "maxSurge": 0, "maxUnavailable": 0}},
        "1 to 20 together",
    ),
    "nodes newer than their control plane": ("NodePool", {"version": "1.35"}, "must not be later"),
    "a pool of version 1.24": ("NodePool", {"version": "1.24"}, '"1.24" is unsupported'),
    "a T4 on a machine that takes none": (
        "NodePool",
        {"nodeConfig__guestAccelerators": [T4], "nodeConfig__machineType": "e2-standard-4"},
        "cannot be attached to machine type",
    ),
    "three T4": ("NodePool", {"nodeConfig__guestAccelerators": [T4 | {"count": 3}]}, "not 3"),
    "an accelerator that does not exist": (
        "NodePool",
        {"nodeConfig__guestAccelerators": [T4 | {"type": "nvidia-tesla-k40"}]},
        "does not exist",
    ),
    "a driver that does not exist": (
        "NodePool",
        {
            "nodeConfig__guestAccelerators": [
                T4 | {"gpuDriverInstallationConfig": {"gpuDriverVersion": "NEWEST"}}
            ]
        },
        "gpuDriverVersion: expected one of",
    ),
    "a machine that does not exist": ("NodePool", {"nodeConfig__machineType": "huge"}, "does not exist"),
    "a disk of 9 GB": ("NodePool", {"nodeConfig__diskSizeGb": 9}, "diskSizeGb: expected at least 10"),
    "a disk that does not exist": (
        "NodePool",
        {"nodeConfig__diskType": "floppy"},
        "diskType: expected one of",
    ),
    "an image that does not exist": (
        "NodePool",
        {"nodeConfig__imageType": "DOS"},
        "imageType: expected one of",
    ),
    "a taint's effect that does not exist": (
        "NodePool",
        {"nodeConfig__taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]},
        "taints[0].effect: expected one of",
    ),
    "a node label with a space": ("NodePool", {"nodeConfig__labels": {"a b": "c"}}, "Invalid node label"),
    "nodes that are spot and preemptible": (
        "NodePool",
        {"nodeConfig__spot": True, "nodeConfig__preemptible": True},
        "Only one of",
    ),
    "a pool's account that does not exist": (
        "NodePool",
        {"nodeConfig__serviceAccount": "nobody@demo-project.iam.gserviceaccount.com"},
        "does not exist",
    ),
    # what keeps data
    "a storage class that does not exist": (
        "Bucket",
        {"storageClass": "WARM"},
        "storageClass: expected one of",
    ),
    "an object without its bucket": ("BucketObject", {"bucket": "other"}, "Error 404"),
    "an object with no content": ("BucketObject", {"content": ABSENT}, "one of content and source"),
    "a secret that is kept nowhere": ("Secret", {"replication": {}}, "one of auto and userManaged"),
    "a version without its secret": (
        "SecretVersion",
        {"secret": "projects/demo-project/secrets/other"},
        "Error 404",
    ),
    "a secret of 65 KiB": ("SecretVersion", {"secretData": "x" * 65 * 1024}, "at most 65536 bytes"),
    "a repository of a format that does not exist": ("Repository", {"format": "FLOPPY"}, "FLOPPY"),
    "a repository in a zone": ("Repository", {"location": "us-central1-a"}, "neither a region"),
    "a Filestore tier that does not exist": ("Instance", {"tier": "COLD"}, "COLD"),
    "a Filestore of 100 GiB": ("Instance", {"fileShares__capacityGb": 100}, "1024 to 65434 GiB"),
    "a zonal Filestore in a region": ("Instance", {"location": "us-central1"}, "needs a zone"),
    "a Filestore share's name of 17 characters": ("Instance", {"fileShares__name": "s" * 17}, "at most 16"),
    "a Filestore without its network": (
        "Instance",
        {"networks": [{"network": "other", "modes": ["MODE_IPV4"]}]},
        "Error 404",
    ),
}


@pytest.mark.parametrize("token", VALID)
def test_a_valid_resource_of_each_type_is_made(tmp_path, token):
    title = token.rpartition(":")[2]
    assert World(tmp_path).before(title).refusal(title) == ""


@pytest.mark.parametrize(("title", "changes", "named"), CASES.values(), ids=CASES.keys())
def test_the_double_refuses(tmp_path, title, changes, named):
    refusal = World(tmp_path).before(title).refusal(title, **changes)
    assert named in refusal


@pytest.mark.parametrize(
    "token", [one for one in VALID if one.rpartition(":")[2] not in {"Service", "IAMMember", "SecretVersion"}]
)
def test_what_exists_cannot_be_made_again(tmp_path, token):
    """Enabling an API and granting a role are the same done twice; a secret's versions are numbered."""
    title = token.rpartition(":")[2]
    world = World(tmp_path).before(title)
    world.make(title)
    assert "Error 409" in world.refusal(title)


@pytest.mark.parametrize("title", ["Service", "IAMMember"])
def test_what_can_be_done_twice_is_there_once(tmp_path, title):
    world = World(tmp_path).before(title)
    assert world.make(title) == world.make(title)
    assert world.refusal(title) == ""


@pytest.mark.parametrize("title", ["Network", "Cluster", "Repository", "Secret", "Instance"])
def test_an_api_that_is_not_enabled_makes_nothing(tmp_path, title):
    world = World(tmp_path).before(title)
    with world.cloud.transaction() as state:
        state.document["services"].clear()
    assert "accessNotConfigured" in world.refusal(title)


def test_autopilot_refuses_node_pools(tmp_path):
    world = World(tmp_path).before("Cluster")
    world.make(
        "Cluster",
        location="us-central1",
        enableAutopilot=True,
        initialNodeCount=ABSENT,
        removeDefaultNodePool=ABSENT,
    )
    cluster = world.ids["Cluster"]
    assert "Autopilot clusters do not support" in world.refusal("NodePool", cluster=cluster)

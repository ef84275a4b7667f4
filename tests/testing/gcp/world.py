"""A small project on the double, one valid resource of each type, and what the double has against a changed one."""

import copy
from pathlib import Path
from typing import Any

from testing.gcp.cloud import Cloud, GoogleError
from testing.gcp.kinds.places import Where
from testing.gcp.provider import Call, Provider

PROJECT, REGION, ZONE = "demo-project", "us-central1", "us-central1-a"
CLUSTER_ID = f"projects/{PROJECT}/locations/{ZONE}/clusters/c"
NODES = "node-account@demo-project.iam.gserviceaccount.com"
ABSENT = object()

Inputs = dict[str, Any]
# In the order in which each can be made.
VALID: dict[str, Inputs] = {
    "gcp:projects/service:Service": {"service": "container.googleapis.com"},
    "gcp:compute/network:Network": {"name": "net", "autoCreateSubnetworks": False},
    "gcp:compute/subnetwork:Subnetwork": {
        "name": "sub",
        "network": "net",
        "region": REGION,
        "ipCidrRange": "10.80.0.0/20",
        "secondaryIpRanges": [
            {"rangeName": "pods", "ipCidrRange": "10.84.0.0/14"},
            {"rangeName": "services", "ipCidrRange": "10.88.0.0/20"},
        ],
    },
    "gcp:compute/router:Router": {"name": "router", "network": "net", "region": REGION},
    "gcp:compute/routerNat:RouterNat": {
        "name": "nat",
        "router": "router",
        "region": REGION,
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    },
    "gcp:serviceaccount/account:Account": {"accountId": "node-account"},
    "gcp:projects/iAMMember:IAMMember": {
        "project": PROJECT,
        "role": "roles/artifactregistry.reader",
        "member": f"serviceAccount:{NODES}",
    },
    "gcp:container/cluster:Cluster": {
        "name": "c",
        "location": ZONE,
        "network": "net",
        "subnetwork": "sub",
        "initialNodeCount": 1,
        "removeDefaultNodePool": True,
        "ipAllocationPolicy": {
            "clusterSecondaryRangeName": "pods",
            "servicesSecondaryRangeName": "services",
        },
        "releaseChannel": {"channel": "REGULAR"},
        "deletionProtection": False,
    },
    "gcp:container/nodePool:NodePool": {
        "name": "pool",
        "cluster": CLUSTER_ID,
        "autoscaling": {"totalMinNodeCount": 0, "totalMaxNodeCount": 5},
        "nodeConfig": {"machineType": "n1-standard-4", "serviceAccount": NODES},
    },
    "gcp:storage/bucket:Bucket": {"name": "models-of-demo", "location": "us-central1"},
    "gcp:storage/bucketObject:BucketObject": {
        "bucket": "models-of-demo",
        "name": "model",
        "content": "weights",
    },
    "gcp:secretmanager/secret:Secret": {"secretId": "keys", "replication": {"auto": {}}},
    "gcp:secretmanager/secretVersion:SecretVersion": {
        "secret": f"projects/{PROJECT}/secrets/keys",
        "secretData": "first",
    },
    "gcp:artifactregistry/repository:Repository": {
        "repositoryId": "images",
        "format": "DOCKER",
        "location": REGION,
    },
    "gcp:filestore/instance:Instance": {
        "name": "store",
        "tier": "BASIC_HDD",
        "location": ZONE,
        "fileShares": {"name": "models", "capacityGb": 1024},
        "networks": [{"network": "net", "modes": ["MODE_IPV4"]}],
    },
}
APIS = ("secretmanager", "artifactregistry", "file")


def kind(title: str) -> str:
    """Return the token of a type's class."""
    (found,) = [token for token in VALID if token.endswith(f":{title}")]
    return found


class World:
    """A provider on a new cloud. ``ids`` are those of what was made, by the class of its type."""

    def __init__(self, folder: Path, **where: Any) -> None:
        self.cloud = Cloud(folder)
        self.provider = Provider(self.cloud, Where(**{"project": PROJECT, "region": REGION} | where))
        self.ids: dict[str, str] = {}
        self.outputs: dict[str, Inputs] = {}

    def before(self, title: str) -> "World":
        """Make everything that a type of resource may need."""
        with self.cloud.transaction() as state:
            state.document["services"] += [f"{name}.googleapis.com" for name in APIS]
        for token in VALID:
            if token == kind(title):
                break
            self.make(token.rpartition(":")[2])
        return self

    def make(self, title: str, **changes: Any) -> str:
        """Make the valid resource of a type, changed as ``changed`` says; return its id.

        In the program it is called as at Google, or ``it`` where the type has no name.
        """
        call, inputs = Call(kind(title), changes.get("name", "it"), patience_s=20), changed(title, **changes)
        inputs, findings = self.provider.check(call, {}, inputs)
        assert findings == []
        self.ids[title], self.outputs[title] = self.provider.create(call, inputs)
        return self.ids[title]

    def refusal(self, title: str, **changes: Any) -> str:
        """Return why a changed resource is refused, by the check or by Google; empty where it is made."""
        call, inputs = Call(kind(title), "it", patience_s=20), changed(title, **changes)
        inputs, findings = self.provider.check(call, {}, inputs)
        if findings:
            return "; ".join(f"{one.path}: {one.reason}" for one in findings)
        try:
            self.provider.create(call, inputs)
        except GoogleError as refused:
            return str(refused)
        return ""

    def delete(self, title: str, **last: Any) -> None:
        """Delete what was made last of a type; ``last`` changes its outputs in Pulumi's state."""
        self.provider.delete(
            Call(kind(title), "it", patience_s=20), self.ids[title], self.outputs[title] | last
        )

    def update(self, title: str, **changes: Any) -> None:
        """Change what was made last of a type."""
        call = Call(kind(title), "it", patience_s=20)
        self.outputs[title] = self.provider.update(
            call, self.ids[title], self.outputs[title], changed(title, **changes)
        )

    def pool(self, name: str) -> Inputs:
        """Return what the cloud has of a node pool."""
        with self.cloud.transaction() as state:
            return dict(state.all(kind("NodePool"))[f"{CLUSTER_ID}/nodePools/{name}"])


def changed(title: str, **changes: Any) -> Inputs:
    """Return the valid inputs of a type with values replaced at paths such as ``nodeConfig__spot``."""
    inputs = copy.deepcopy(VALID[kind(title)])
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = inputs
        for part in outer:
            place = place.setdefault(part, {})
        if value is ABSENT:
            place.pop(last, None)
        else:
            place[last] = value
    return inputs

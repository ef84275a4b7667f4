"""The resource types and lookups that the double knows: all that ``infra`` uses, and some of its near relatives."""

from testing.gcp.kinds.artifact_registry import Repository
from testing.gcp.kinds.base import Kind
from testing.gcp.kinds.cluster import Cluster
from testing.gcp.kinds.compute import Network, Router, RouterNat, Subnetwork
from testing.gcp.kinds.filestore import Instance
from testing.gcp.kinds.identity import Account, IAMMember, Service
from testing.gcp.kinds.lookups import LOOKUPS
from testing.gcp.kinds.node_pool import NodePool
from testing.gcp.kinds.secret_manager import Secret, SecretVersion
from testing.gcp.kinds.storage import Bucket, BucketObject

_ALL: tuple[type[Kind], ...] = (
    *(Network, Subnetwork, Router, RouterNat),
    *(Service, Account, IAMMember),
    *(Cluster, NodePool),
    *(Bucket, BucketObject, Secret, SecretVersion, Repository, Instance),
)
KINDS: dict[str, Kind] = {kind.token: kind() for kind in _ALL}

__all__ = ["KINDS", "LOOKUPS"]

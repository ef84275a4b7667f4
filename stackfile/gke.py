"""The ``gke`` section of a stack: the cluster that target ``gke`` makes before the service runs on it.

Project and region are Pulumi's (``gcp:project``, ``gcp:region``), so that one file serves several projects.
"""

from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from stackfile.validation import Strict

# Enabling container enables what GKE depends on with it: IAM, Logging, Monitoring, Artifact Registry.
APIS = ("compute.googleapis.com", "container.googleapis.com")
Zone = Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]$")]
Nodes = Annotated[int, Field(ge=0, le=1000)]
# Images of several GB are unpacked on the boot disk; GKE itself refuses less than 10 GiB.
DiskGib = Annotated[int, Field(ge=20)]


class Maintenance(Strict):
    """When Google may upgrade: the first window, and how it recurs as an RFC 5545 rule.

    GKE wants 48 h in any 32 days, in windows of at least 4 h.
    """

    start: AwareDatetime = datetime(2026, 1, 3, 2, tzinfo=UTC)
    end: AwareDatetime = datetime(2026, 1, 3, 8, tzinfo=UTC)
    recurrence: Annotated[str, Field(pattern=r"^FREQ=(DAILY|WEEKLY)")] = "FREQ=WEEKLY;BYDAY=SA,SU"


class Network(Strict):
    """Address ranges, which must not meet those of networks that are peered or reached by VPN."""

    nodes: IPv4Network = IPv4Network("10.80.0.0/20")
    pods: IPv4Network = IPv4Network("10.84.0.0/14")
    services: IPv4Network = IPv4Network("10.88.0.0/20")
    control_plane: IPv4Network = IPv4Network("172.16.80.0/28")


class CpuPool(Strict):
    """The nodes of everything but the model: gateway, loader, Redis, the cluster's own pods."""

    machine_type: str = "n1-standard-2"
    min_nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    max_nodes: Nodes = 3
    spot: bool = False
    disk_gib: DiskGib = 50


class GpuPool(Strict):
    """The nodes of the model, over all zones together. ``machine_type`` is the catalogue's when left out.

    ``driver``: ``gke`` lets GKE install its own, ``daemonset`` installs exactly ``driver_version`` with
    NVIDIA's installer on Container-Optimized OS, ``none`` leaves it to the cluster's operator.
    ``generations``: one pool each. A second one beside the first is how a pool is rolled without an outage;
    the older keeps the node settings that it was created with.
    """

    machine_type: str | None = None
    min_nodes: Nodes = 0
    max_nodes: Nodes = 5
    spot: bool = False
    disk_gib: DiskGib = 100
    driver: Literal["gke", "daemonset", "none"] = "gke"
    driver_version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")] | None = None
    generations: Annotated[
        tuple[Annotated[int, Field(ge=1, le=99)], ...], Field(min_length=1, max_length=2)
    ] = (1,)


class Gke(Strict):
    """The cluster. ``zones`` are tried in any order for GPUs; a zonal control plane stands in the first one.

    ``endpoint``: ``dns`` reaches the API server by name with IAM deciding, from anywhere; ``public`` by
    address from ``authorised_networks`` alone; ``private`` from inside the network alone.
    """

    zones: Annotated[tuple[Zone, ...], Field(min_length=1)]
    deletion_protection: bool
    control_plane: Literal["zonal", "regional"] = "zonal"
    release_channel: Literal["rapid", "regular", "stable", "extended", "none"] = "regular"
    version: Annotated[str, Field(pattern=r"^1\.[0-9]+(\.[0-9]+(-gke\.[0-9]+)?)?$")] | None = None
    maintenance: Maintenance = Maintenance()
    network: Network = Network()
    endpoint: Literal["dns", "public", "private"] = "dns"
    authorised_networks: dict[str, IPv4Network] = Field(default_factory=dict)
    autopilot: bool = False
    cpu_pool: CpuPool = CpuPool()
    gpu_pool: GpuPool = GpuPool()

    @property
    def region(self) -> str:
        """Return the region of the zones, e.g. ``us-central1``."""
        return self.zones[0].rpartition("-")[0]

    @property
    def location(self) -> str:
        """Return where the control plane stands: the first zone, or the region."""
        return self.zones[0] if self.control_plane == "zonal" and not self.autopilot else self.region

"""The ``gke`` section of a stack: the cluster that target ``gke`` creates for the service.

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
# Nodes unpack images of several GB on the boot disk; GKE itself refuses less than 10 GiB.
DiskGib = Annotated[int, Field(ge=20)]


class Maintenance(Strict):
    """When Google may upgrade: the first window, and its recurrence as an RFC 5545 rule.

    GKE requires 48 h in any 32 days, in windows of at least 4 h.
    """

    start: AwareDatetime = datetime(2026, 1, 3, 2, tzinfo=UTC)
    """Start of the first window in which Google may upgrade."""
    end: AwareDatetime = datetime(2026, 1, 3, 8, tzinfo=UTC)
    """End of the first window."""
    recurrence: Annotated[str, Field(pattern=r"^FREQ=(DAILY|WEEKLY)")] = "FREQ=WEEKLY;BYDAY=SA,SU"
    """Recurrence of the window, as an RFC 5545 rule."""


class AddressRanges(Strict):
    """Address ranges, which must not overlap those of networks that are peered or reached by VPN."""

    nodes: IPv4Network = IPv4Network("10.80.0.0/20")
    """Addresses of the nodes."""
    pods: IPv4Network = IPv4Network("10.84.0.0/14")
    """Addresses of the pods."""
    services: IPv4Network = IPv4Network("10.88.0.0/20")
    """Addresses of the Services."""
    control_plane: IPv4Network = IPv4Network("172.16.80.0/28")
    """Addresses of the control plane, a /28."""


class CpuPool(Strict):
    """The nodes of everything except the model: gateway, loader, Redis, the cluster's own pods."""

    machine_type: str = "n1-standard-2"
    """Machine type of the nodes."""
    min_nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Least number of nodes, all zones together."""
    max_nodes: Nodes = 3
    """Largest number of nodes, all zones together."""
    spot: bool = False
    """Whether the nodes are spot VMs, which Google may take back."""
    disk_gib: DiskGib = 50
    """Boot disk of a node in GiB."""


class GpuPool(Strict):
    """The nodes of the model, over all zones together. ``machine_type`` defaults to the catalogue's.

    ``driver``: ``gke`` lets GKE install its own, ``daemonset`` installs exactly ``driver_version`` with
    NVIDIA's installer on Container-Optimized OS, ``none`` leaves the driver to the cluster's operator.
    ``generations``: one pool each. A second generation replaces the first without an outage; the older one
    keeps the node settings that it was created with.
    """

    machine_type: str | None = None
    """Machine type of the nodes. Default: the catalogue's for the accelerator."""
    min_nodes: Nodes = 0
    """Least number of nodes, all zones together."""
    max_nodes: Nodes = 5
    """Largest number of nodes, all zones together."""
    spot: bool = False
    """Whether the nodes are spot VMs, which Google may take back."""
    disk_gib: DiskGib = 100
    """Boot disk of a node in GiB."""
    driver: Literal["gke", "daemonset", "none"] = "gke"
    """NVIDIA's driver: `gke` (GKE installs its own), `daemonset` (exactly `driver_version`) or `none`."""
    driver_version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")] | None = None
    """Version of the driver, with `driver: daemonset`."""
    generations: Annotated[
        tuple[Annotated[int, Field(ge=1, le=99)], ...], Field(min_length=1, max_length=2)
    ] = (1,)
    """One pool for each generation; two while one replaces the other without an outage."""


class Gke(Strict):
    """The cluster. GPU nodes come from any of ``zones``; a zonal control plane runs in the first one.

    ``endpoint``, how clients reach the API server: ``dns`` by name from anywhere, authorized by IAM;
    ``public`` by address from ``authorized_networks`` only; ``private`` from inside the network only.
    """

    zones: Annotated[tuple[Zone, ...], Field(min_length=1)]
    """Zones of one region. GPU nodes are created in any zone with a free GPU; a zonal control plane runs in
    the first."""
    deletion_protection: bool
    """Whether the cluster is protected from deletion."""
    control_plane: Literal["zonal", "regional"] = "zonal"
    """`zonal` or `regional`."""
    release_channel: Literal["rapid", "regular", "stable", "extended", "none"] = "regular"
    """Release channel of upgrades, or `none` with `version` pinned."""
    version: Annotated[str, Field(pattern=r"^1\.[0-9]+(\.[0-9]+(-gke\.[0-9]+)?)?$")] | None = None
    """Kubernetes version, with `release_channel: none`."""
    maintenance: Maintenance = Maintenance()
    network: AddressRanges = AddressRanges()
    endpoint: Literal["dns", "public", "private"] = "dns"
    """Access to the API server: `dns` (by name; IAM decides), `public` (from `authorized_networks`) or
    `private` (from inside the network)."""
    authorized_networks: dict[str, IPv4Network] = Field(default_factory=dict)
    """Name and address range of each network that may reach the API server, with `endpoint: public`."""
    autopilot: bool = False
    """Whether Google manages the nodes; the pools below are then refused."""
    cpu_pool: CpuPool = CpuPool()
    gpu_pool: GpuPool = GpuPool()

    @property
    def region(self) -> str:
        """Return the region of the zones, e.g. ``us-central1``."""
        return self.zones[0].rpartition("-")[0]

    @property
    def location(self) -> str:
        """Return the location of the control plane: the first zone, or the region."""
        return self.zones[0] if self.control_plane == "zonal" and not self.autopilot else self.region

"""Conflicts within the ``gke`` section, and between the section and the rest of the stack."""

from collections.abc import Iterator
from itertools import combinations

from stackfile.catalogue import AcceleratorFacts
from stackfile.document import Conflict
from stackfile.gke import Gke, GpuPool
from stackfile.stack import Stack

# A service account's id has at most 30 characters and a node pool's name 40, of which Pulumi takes 8
# (pulumi-gcp issue 1510); the longest suffixes we add are "-nodes" and "-gpu-g99".
LONGEST_NAME = 24
# GKE's limits for a recurring window.
SHORTEST_WINDOW_H = 4


def conflicts(stack: Stack, device: AcceleratorFacts) -> Iterator[Conflict]:
    """Yield every conflict of the ``gke`` section, which target ``gke`` requires and no other accepts."""
    if stack.gke is None:
        if stack.target == "gke":
            yield (
                ("gke",),
                "is missing, but required with target: gke; add at least zones and deletion_protection",
            )
        return
    if stack.target != "gke":
        yield ("gke",), f"applies to target: gke only, not {stack.target}; remove it"
        return
    if len(stack.name) > LONGEST_NAME:
        yield (
            ("name",),
            f"has more than {LONGEST_NAME} characters, which the names of GKE resources do not allow;"
            " shorten it",
        )
    yield from _zones(stack.gke)
    yield from _version(stack.gke)
    yield from _endpoint(stack.gke)
    yield from _ranges(stack.gke)
    yield from _pools(stack.gke)
    yield from _accelerator(stack, stack.gke.gpu_pool, device)
    if stack.gke.autopilot:
        yield from _autopilot(stack.gke)


def _zones(gke: Gke) -> Iterator[Conflict]:
    for zone in gke.zones:
        if zone.rpartition("-")[0] != gke.region:
            yield (
                ("gke", "zones"),
                f"{zone} is not in {gke.region}, but a cluster has one region; keep the zones of one region",
            )
    if len(set(gke.zones)) < len(gke.zones):
        yield ("gke", "zones"), "has a duplicate zone; remove one"


def _version(gke: Gke) -> Iterator[Conflict]:
    if gke.release_channel == "none" and gke.version is None:
        yield (
            ("gke", "version"),
            "is required without a release channel; pin one (gcloud container get-server-config)",
        )
    if gke.release_channel != "none" and gke.version is not None:
        yield (
            ("gke", "version"),
            f"release channel {gke.release_channel} would upgrade past {gke.version}; to pin the version, set"
            " release_channel: none",
        )
    window = gke.maintenance.end - gke.maintenance.start
    if window.total_seconds() < SHORTEST_WINDOW_H * 3600:
        yield (
            ("gke", "maintenance", "end"),
            f"makes the window {window} long; GKE requires at least {SHORTEST_WINDOW_H} h after start",
        )


def _endpoint(gke: Gke) -> Iterator[Conflict]:
    where = ("gke", "authorized_networks")
    if gke.endpoint == "public" and not gke.authorized_networks:
        yield (
            where,
            "is empty, so no client could reach a public endpoint; name your networks, or set endpoint: dns",
        )
    if gke.endpoint == "dns" and gke.authorized_networks:
        yield where, "has no effect on endpoint: dns, where IAM decides; remove it or set endpoint: public"
    for name, network in gke.authorized_networks.items():
        if network.prefixlen == 0:
            yield (
                (*where, name),
                "opens the API server to the whole internet; name the networks that need it",
            )


def _ranges(gke: Gke) -> Iterator[Conflict]:
    ranges = {name: getattr(gke.network, name) for name in type(gke.network).model_fields}
    for (one, first), (other, second) in combinations(ranges.items(), 2):
        if first.overlaps(second):
            yield ("gke", "network", other), f"{second} overlaps {one} ({first}); give it another range"
    if gke.network.control_plane.prefixlen != 28:
        yield ("gke", "network", "control_plane"), "must be exactly a /28 for GKE's control plane"


def _pools(gke: Gke) -> Iterator[Conflict]:
    for name, pool in (("cpu_pool", gke.cpu_pool), ("gpu_pool", gke.gpu_pool)):
        if pool.max_nodes < max(pool.min_nodes, 1):
            yield (
                ("gke", name, "max_nodes"),
                f"{pool.max_nodes} is below min_nodes or 1, so the pool could not hold a pod; raise it",
            )
    generations = gke.gpu_pool.generations
    if list(generations) != sorted(set(generations)):
        yield (
            ("gke", "gpu_pool", "generations"),
            "must be in ascending order; write the older generation first, e.g. [1, 2]",
        )


def _accelerator(stack: Stack, pool: GpuPool, device: AcceleratorFacts) -> Iterator[Conflict]:
    where = ("gke", "gpu_pool", "driver_version")
    if pool.driver == "daemonset" and pool.driver_version is None:
        yield where, f"is required with driver: daemonset; pin a version of branch {_branch(device)}"
    if pool.driver != "daemonset" and pool.driver_version is not None:
        yield where, f"has no effect on driver: {pool.driver}; remove it or set driver: daemonset"
    if device.is_gpu and device.gke is None:
        yield ("accelerator", "kind"), f"GKE does not offer {stack.accelerator.kind}; choose t4, l4 or a100"
    if not device.is_gpu and pool != GpuPool():
        yield ("gke", "gpu_pool"), f"has no effect on accelerator {stack.accelerator.kind}; remove it"


def _branch(device: AcceleratorFacts) -> str:
    return device.driver.branch if device.driver else "(unknown)"


def _autopilot(gke: Gke) -> Iterator[Conflict]:
    for name, pool in (("cpu_pool", gke.cpu_pool), ("gpu_pool", gke.gpu_pool)):
        if pool != type(pool)():
            yield (
                ("gke", name),
                "has no effect on Autopilot, which sizes nodes by the pods; remove it",
            )
    if gke.release_channel == "none":
        yield ("gke", "release_channel"), "must be a channel on Autopilot; name one and remove version"

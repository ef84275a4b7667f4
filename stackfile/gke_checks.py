"""What must hold between the settings of the ``gke`` section, and between it and the rest of the stack."""

from collections.abc import Iterator
from itertools import combinations

from stackfile.catalogue import AcceleratorFacts
from stackfile.document import Location
from stackfile.gke import Gke, GpuPool
from stackfile.stack import Stack

Finding = tuple[Location, str]
# A service account's id has at most 30 characters and a node pool's name 40, of which Pulumi takes 8
# (pulumi-gcp issue 1510); the longest suffixes we add are "-nodes" and "-gpu-g99".
LONGEST_NAME = 24
# GKE's limits for a recurring window.
SHORTEST_WINDOW_H = 4


def findings(stack: Stack, device: AcceleratorFacts) -> Iterator[Finding]:
    """Yield every conflict of the ``gke`` section; its absence or presence with the wrong target is one."""
    if stack.gke is None:
        if stack.target == "gke":
            yield (
                ("gke",),
                "is missing, but target: gke needs it; add at least zones and deletion_protection",
            )
        return
    if stack.target != "gke":
        yield ("gke",), f"is read with target: gke only, not {stack.target}; remove it"
        return
    if len(stack.name) > LONGEST_NAME:
        yield ("name",), f"has more than {LONGEST_NAME} characters; GKE's names derive from it, so shorten it"
    yield from _zones(stack.gke)
    yield from _version(stack.gke)
    yield from _endpoint(stack.gke)
    yield from _ranges(stack.gke)
    yield from _pools(stack.gke)
    yield from _accelerator(stack, stack.gke.gpu_pool, device)
    if stack.gke.autopilot:
        yield from _autopilot(stack.gke)


def _zones(gke: Gke) -> Iterator[Finding]:
    for zone in gke.zones:
        if zone.rpartition("-")[0] != gke.region:
            yield (
                ("gke", "zones"),
                f"{zone} is not in {gke.region}; a cluster lives in one region, so keep zones of one",
            )
    if len(set(gke.zones)) < len(gke.zones):
        yield ("gke", "zones"), "names a zone twice; keep one of them"


def _version(gke: Gke) -> Iterator[Finding]:
    if gke.release_channel == "none" and gke.version is None:
        yield (
            ("gke", "version"),
            "is needed without a release channel; pin one (gcloud container get-server-config)",
        )
    if gke.release_channel != "none" and gke.version is not None:
        yield (
            ("gke", "version"),
            f"{gke.release_channel} would upgrade past {gke.version}; set release_channel: none to pin",
        )
    window = gke.maintenance.end - gke.maintenance.start
    if window.total_seconds() < SHORTEST_WINDOW_H * 3600:
        yield (
            ("gke", "maintenance", "end"),
            f"leaves {window}; GKE wants at least {SHORTEST_WINDOW_H} h after start",
        )


def _endpoint(gke: Gke) -> Iterator[Finding]:
    where = ("gke", "authorised_networks")
    if gke.endpoint == "public" and not gke.authorised_networks:
        yield (
            where,
            "is empty, so nobody could reach a public endpoint; name your networks, or set endpoint: dns",
        )
    if gke.endpoint == "dns" and gke.authorised_networks:
        yield where, "has no effect on endpoint: dns, where IAM decides; remove it or set endpoint: public"
    for name, network in gke.authorised_networks.items():
        if network.prefixlen == 0:
            yield (
                (*where, name),
                "opens the API server to the whole internet; name the networks that need it",
            )


def _ranges(gke: Gke) -> Iterator[Finding]:
    ranges = {name: getattr(gke.network, name) for name in type(gke.network).model_fields}
    for (one, first), (other, second) in combinations(ranges.items(), 2):
        if first.overlaps(second):
            yield ("gke", "network", other), f"{second} overlaps {one} ({first}); give it another range"
    if gke.network.control_plane.prefixlen != 28:
        yield ("gke", "network", "control_plane"), "GKE wants exactly a /28 for the control plane"


def _pools(gke: Gke) -> Iterator[Finding]:
    for name, pool in (("cpu_pool", gke.cpu_pool), ("gpu_pool", gke.gpu_pool)):
        if pool.max_nodes < max(pool.min_nodes, 1):
            yield (
                ("gke", name, "max_nodes"),
                f"{pool.max_nodes} is below min_nodes or 1; the pool could hold no pod, so raise it",
            )
    generations = gke.gpu_pool.generations
    if list(generations) != sorted(set(generations)):
        yield ("gke", "gpu_pool", "generations"), "must rise; write the older generation first, e.g. [1, 2]"


def _accelerator(stack: Stack, pool: GpuPool, device: AcceleratorFacts) -> Iterator[Finding]:
    where = ("gke", "gpu_pool", "driver_version")
    if pool.driver == "daemonset" and pool.driver_version is None:
        yield where, f"is needed with driver: daemonset; pin one of branch {_branch(device)}"
    if pool.driver != "daemonset" and pool.driver_version is not None:
        yield where, f"has no effect on driver: {pool.driver}; remove it or set driver: daemonset"
    if device.is_gpu and device.gke is None:
        yield ("accelerator", "kind"), f"GKE offers no {stack.accelerator.kind}; choose t4, l4 or a100"
    if not device.is_gpu and pool != GpuPool():
        yield ("gke", "gpu_pool"), f"has no effect on accelerator {stack.accelerator.kind}; remove it"


def _branch(device: AcceleratorFacts) -> str:
    return device.driver.branch if device.driver else "(none known)"


def _autopilot(gke: Gke) -> Iterator[Finding]:
    for name, pool in (("cpu_pool", gke.cpu_pool), ("gpu_pool", gke.gpu_pool)):
        if pool != type(pool)():
            yield (
                ("gke", name),
                "has no effect on Autopilot, which makes nodes to fit the pods; remove it",
            )
    if gke.release_channel == "none":
        yield ("gke", "release_channel"), "Autopilot is always in a channel; name one and drop version"

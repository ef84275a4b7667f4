"""What a plan costs, from dated list prices. A price that nobody has written down stays unknown."""

from dataclasses import dataclass
from datetime import date
from functools import cache

from pydantic import Field

from stackfile.catalogue import DIRECTORY
from stackfile.document import read
from stackfile.errors import StackFileError
from stackfile.gke import CpuPool, GpuPool
from stackfile.resolved import ResolvedStack
from stackfile.validation import Strict, validate

HOURS_A_MONTH = 730


class Machines(Strict):
    """USD for one vCPU and one GiB of memory of a machine family, an hour."""

    vcpu_hour: float
    gib_hour: float


class Region(Strict):
    """The prices of one region: machine families, accelerators by GKE's name (an hour), storage (a month)."""

    machines: dict[str, Machines] = Field(default_factory=dict)
    accelerators: dict[str, float] = Field(default_factory=dict)
    balanced_disk_gib_month: float | None = None
    filestore_gib_month: dict[str, float] = Field(default_factory=dict)


class Prices(Strict):
    """``catalogue/prices.yaml``: list prices in USD as of a date."""

    as_of: date
    sources: tuple[str, ...]
    cluster_hour: float
    free_cluster: tuple[str, ...]
    nat_node_hour: float
    regions: dict[str, Region]


@dataclass(frozen=True)
class Size:
    """A machine type as Google describes it."""

    vcpus: int
    memory_gib: float


@dataclass(frozen=True)
class Item:
    """One line of the bill: USD an hour for the fewest and the most nodes; None where a price is unknown."""

    name: str
    least: float | None
    most: float | None


@cache
def prices() -> Prices:
    """Return the price list. Raises StackFileError when the file is wrong."""
    model, problems = validate(read(DIRECTORY / "prices.yaml"), Prices)
    if problems or model is None:
        raise StackFileError(problems)
    return model


def bill(service: ResolvedStack, sizes: dict[str, Size]) -> list[Item]:
    """Return what the plan costs, line by line. ``sizes`` by machine type.

    Traffic is not in it: nobody knows it before.
    """
    gke, listed = service.gke, prices()
    if gke is None:
        return []
    region = listed.regions.get(gke.region, Region())
    lines = [Item("control plane", listed.cluster_hour, listed.cluster_hour), _store(service, region)]
    if gke.autopilot:
        return [*lines, Item("pods on Autopilot", None, None)]
    pools: list[CpuPool | GpuPool] = [gke.cpu_pool, *([gke.gpu_pool] if service.accelerator.is_gpu else [])]
    for pool in pools:
        hour = _node_hour(service, pool, region, sizes)
        node = None if hour is None else hour + listed.nat_node_hour
        name = "GPU nodes" if isinstance(pool, GpuPool) else "CPU nodes"
        lines.append(Item(name, _times(pool.min_nodes, node), _times(pool.max_nodes, node)))
    return lines


def total(lines: list[Item]) -> tuple[float, float, list[str]]:
    """Return USD an hour for the fewest and the most nodes, and the lines that have no price."""
    unknown = [line.name for line in lines if line.most is None]
    known = [line for line in lines if line.most is not None]
    return sum(line.least or 0 for line in known), sum(line.most or 0 for line in known), unknown


def filestore(service: ResolvedStack) -> bool:
    """Say whether the model store is a Filestore instance: GKE's classes for it end so."""
    kubernetes = service.kubernetes
    return kubernetes is not None and (kubernetes.store.storage_class or "").endswith("-rwx")


def _store(service: ResolvedStack, region: Region) -> Item:
    """Return the model store's line: Filestore by its class, else a balanced disk, GKE's default."""
    if service.kubernetes is None or service.kubernetes.store.kind != "pvc":
        return Item("model store", None, None)
    store = service.kubernetes.store
    listed = region.filestore_gib_month.get(store.storage_class or "") if filestore(service) else None
    if store.storage_class is None:
        listed = region.balanced_disk_gib_month
    hour = None if listed is None else store.size_gib * listed / HOURS_A_MONTH
    return Item("model store", hour, hour)


def machine_type(service: ResolvedStack, pool: CpuPool | GpuPool) -> str | None:
    """Return a pool's machine type: the stack's, or the catalogue's for the accelerator."""
    offered = service.accelerator.gke
    return pool.machine_type or (offered.machine_type if offered else None)


def _times(nodes: int, hour: float | None) -> float | None:
    return 0.0 if nodes == 0 else None if hour is None else nodes * hour


def _node_hour(
    service: ResolvedStack, pool: CpuPool | GpuPool, region: Region, sizes: dict[str, Size]
) -> float | None:
    """Return one node's price an hour; spot prices move daily, so a spot node's is unknown."""
    name = machine_type(service, pool) or ""
    family, size, disk = (
        region.machines.get(name.partition("-")[0]),
        sizes.get(name),
        region.balanced_disk_gib_month,
    )
    if family is None or size is None or disk is None or pool.spot:
        return None
    hour = size.vcpus * family.vcpu_hour + size.memory_gib * family.gib_hour
    hour += pool.disk_gib * disk / HOURS_A_MONTH
    if not isinstance(pool, GpuPool):
        return hour
    device = region.accelerators.get(service.accelerator.gke.accelerator if service.accelerator.gke else "")
    return None if device is None else hour + service.accelerator.count * device

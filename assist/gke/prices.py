"""The price of a plan, from dated list prices. A price that is not in the list stays unknown."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache

from pydantic import Field

from assist.findings import Finding, ok, unknown
from assist.gke.availability import Size, machine_type, pools, sizes
from assist.gke.google import Google
from stackfile import ResolvedStack, StackFileError
from stackfile.catalogue import DIRECTORY
from stackfile.document import read
from stackfile.gke import CpuPool, Gke, GpuPool
from stackfile.validation import Strict, validate

HOURS_A_MONTH = 730
CALCULATOR = "https://cloud.google.com/products/calculator"


class Machines(Strict):
    """USD an hour for one vCPU and for one GiB of memory of a machine family."""

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
class Item:
    """One line of the bill: USD an hour for the fewest and the most nodes; None where a price is unknown."""

    name: str
    least: float | None
    most: float | None


@cache
def prices() -> Prices:
    """Return the price list. Raises StackFileError for an invalid file."""
    model, problems = validate(read(DIRECTORY / "prices.yaml"), Prices)
    if problems or model is None:
        raise StackFileError(problems)
    return model


def price(stack: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield the bill line by line and its sum, which names the lines without a price. Raises GoogleError."""
    lines = bill(stack, sizes(stack, gke, client))
    listed = prices()
    for line in lines:
        if line.most is None:
            cause = f"the list of {listed.as_of} has no price of {line.name} in {gke.region}"
            yield unknown(
                f"price {line.name}",
                cause,
                f"look up the price and add it to catalogue/prices.yaml: {CALCULATOR}",
            )
        else:
            yield ok(f"price {line.name}", _range(line.least, line.most))
    least, most, missing = total(lines)
    credit = "; Google's free tier may cover the control plane" if _free(gke, listed.free_cluster) else ""
    plus = f", plus the unknown price of: {', '.join(missing)}" if missing else ""
    yield ok("price", f"{_range(least, most)}{plus}; list prices of {listed.as_of}, without traffic{credit}")


def bill(stack: ResolvedStack, sizes: dict[str, Size]) -> list[Item]:
    """Return the price of the plan, line by line. ``sizes`` by machine type.

    Traffic is not included, because its amount is unknown.
    """
    gke, listed = stack.gke, prices()
    if gke is None:
        return []
    region = listed.regions.get(gke.region, Region())
    lines = [Item("control plane", listed.cluster_hour, listed.cluster_hour), _store(stack, region)]
    if gke.autopilot:
        return [*lines, Item("pods on Autopilot", None, None)]
    for pool in pools(stack, gke):
        hour = _node_hour(stack, pool, region, sizes)
        node = None if hour is None else hour + listed.nat_node_hour
        name = "GPU nodes" if isinstance(pool, GpuPool) else "CPU nodes"
        lines.append(Item(name, _times(pool.min_nodes, node), _times(pool.max_nodes, node)))
    return lines


def total(lines: list[Item]) -> tuple[float, float, list[str]]:
    """Return USD an hour for the fewest and the most nodes, and the names of the lines without a price."""
    missing = [line.name for line in lines if line.most is None]
    priced = [line for line in lines if line.most is not None]
    return sum(line.least or 0 for line in priced), sum(line.most or 0 for line in priced), missing


def filestore(stack: ResolvedStack) -> bool:
    """Return whether the model store is a Filestore instance, by its storage class's suffix on GKE."""
    kubernetes = stack.kubernetes
    return kubernetes is not None and (kubernetes.store.storage_class or "").endswith("-rwx")


def _store(stack: ResolvedStack, region: Region) -> Item:
    """Return the model store's line: Filestore by its class, else a balanced disk, GKE's default."""
    if stack.kubernetes is None or stack.kubernetes.store.kind != "pvc":
        return Item("model store", None, None)
    store = stack.kubernetes.store
    listed = region.filestore_gib_month.get(store.storage_class or "") if filestore(stack) else None
    if store.storage_class is None:
        listed = region.balanced_disk_gib_month
    hour = None if listed is None else store.size_gib * listed / HOURS_A_MONTH
    return Item("model store", hour, hour)


def _times(nodes: int, hour: float | None) -> float | None:
    return 0.0 if nodes == 0 else None if hour is None else nodes * hour


def _node_hour(
    stack: ResolvedStack, pool: CpuPool | GpuPool, region: Region, sizes: dict[str, Size]
) -> float | None:
    """Return one node's price an hour; None for a spot node, whose price changes daily."""
    name = machine_type(stack, pool) or ""
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
    device = region.accelerators.get(stack.accelerator.gke.accelerator if stack.accelerator.gke else "")
    return None if device is None else hour + stack.accelerator.count * device


def _free(gke: Gke, kinds: tuple[str, ...]) -> bool:
    return ("autopilot" if gke.autopilot else gke.control_plane) in kinds


def _range(least: float | None, most: float) -> str:
    """Return USD an hour and a month, from the fewest to the most nodes."""
    low = most if least is None else least
    hour = f"{low:.2f}" if low == most else f"{low:.2f} to {most:.2f}"
    month = (
        f"{low * HOURS_A_MONTH:.0f}"
        if low == most
        else f"{low * HOURS_A_MONTH:.0f} to {most * HOURS_A_MONTH:.0f}"
    )
    return f"{hour} USD an hour, {month} USD a month"

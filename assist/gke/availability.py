"""What Google offers in the stack's zones: machine types, and accelerators by the node."""

from collections.abc import Iterator
from dataclasses import dataclass

from assist.findings import Finding, ok, problem
from assist.gke.google import Google, GoogleError
from stackfile import ResolvedStack
from stackfile.gke import CpuPool, Gke, GpuPool

_ZONE = "compute.googleapis.com/compute/v1/projects/{project}/zones/"


@dataclass(frozen=True)
class Size:
    """The size of a machine type, from Google."""

    vcpus: int
    memory_gib: float


def zones(stack: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield one finding a zone. Raises GoogleError.

    A zone without the GPU is a problem even beside zones with the GPU, because it never helps in a stock-out.
    """
    for zone in gke.zones:
        lacking = list(_lacking(stack, gke, zone, client))
        if lacking:
            remedy = (
                f"remove {zone} from gke.zones, or choose what the zone offers: {_listing(stack, client)}"
            )
            yield problem(f"zone {zone}", f"does not offer {', '.join(lacking)}", remedy)
        else:
            yield ok(f"zone {zone}", "offers every machine type and accelerator of the plan")


def sizes(stack: ResolvedStack, gke: Gke, client: Google) -> dict[str, Size]:
    """Return the sizes of the plan's machine types, from Google's first zone. Raises GoogleError."""
    by_name = {}
    for name in _machine_types(stack, gke):
        machine = client.get(f"{_ZONE}{gke.zones[0]}/machineTypes/{name}")
        by_name[name] = Size(int(machine["guestCpus"]), int(machine["memoryMb"]) / 1024)
    return by_name


def pools(stack: ResolvedStack, gke: Gke) -> list[CpuPool | GpuPool]:
    """Return the pools of the plan; that for GPUs only where the stack uses one."""
    return [gke.cpu_pool, *([gke.gpu_pool] if stack.accelerator.is_gpu else [])]


def machine_type(stack: ResolvedStack, pool: CpuPool | GpuPool) -> str | None:
    """Return a pool's machine type: the stack's, or the catalogue's for the accelerator."""
    offer = stack.accelerator.gke
    return pool.machine_type or (offer.machine_type if offer else None)


def _machine_types(stack: ResolvedStack, gke: Gke) -> list[str]:
    """Return the machine types of the plan; Autopilot chooses its own."""
    if gke.autopilot:
        return []
    return [name for pool in pools(stack, gke) if (name := machine_type(stack, pool))]


def _lacking(stack: ResolvedStack, gke: Gke, zone: str, client: Google) -> Iterator[str]:
    for name in _machine_types(stack, gke):
        try:
            client.get(f"{_ZONE}{zone}/machineTypes/{name}")
        except GoogleError as error:
            if error.status != 404:
                raise
            yield name
    accelerator = stack.accelerator
    if not accelerator.is_gpu or accelerator.gke is None:
        return
    cards = {
        str(one["name"]): int(one.get("maximumCardsPerInstance", 0))
        for one in client.items(f"{_ZONE}{zone}/acceleratorTypes", "items")
    }
    if cards.get(accelerator.gke.accelerator, 0) < accelerator.count:
        yield f"{accelerator.count} x {accelerator.gke.accelerator}"


def _listing(stack: ResolvedStack, client: Google) -> str:
    name = stack.accelerator.gke.accelerator if stack.accelerator.gke else ""
    return f"gcloud compute accelerator-types list --filter=name={name} --project {client.project}"

"""What Google offers in the stack's zones: machine types, and accelerators by the node."""

from collections.abc import Iterator

from assist.findings import Finding, ok, problem
from assist.gke.google import Google, GoogleError
from assist.gke.prices import Size, machine_type
from stackfile.gke import CpuPool, Gke, GpuPool
from stackfile.resolved import ResolvedStack

_ZONE = "compute.googleapis.com/compute/v1/projects/{project}/zones/"


def zones(service: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield one finding a zone. One without the GPU is a problem too: it can never help in a stock-out."""
    for zone in gke.zones:
        lacking = list(_lacking(service, gke, zone, client))
        if lacking:
            remedy = f"take {zone} out of gke.zones, or choose what it offers: {_listing(service, client)}"
            yield problem(f"zone {zone}", f"does not offer {', '.join(lacking)}", remedy)
        else:
            yield ok(f"zone {zone}", "offers every machine type and accelerator of the plan")


def sizes(service: ResolvedStack, gke: Gke, client: Google) -> dict[str, Size]:
    """Return the plan's machine types as Google describes them in the first zone. Raises GoogleError."""
    found = {}
    for name in _machine_types(service, gke):
        machine = client.get(f"{_ZONE}{gke.zones[0]}/machineTypes/{name}")
        found[name] = Size(int(machine["guestCpus"]), int(machine["memoryMb"]) / 1024)
    return found


def _machine_types(service: ResolvedStack, gke: Gke) -> list[str]:
    """Return the machine types of the plan; Autopilot chooses its own."""
    if gke.autopilot:
        return []
    pools: list[CpuPool | GpuPool] = [gke.cpu_pool, *([gke.gpu_pool] if service.accelerator.is_gpu else [])]
    return [name for pool in pools if (name := machine_type(service, pool))]


def _lacking(service: ResolvedStack, gke: Gke, zone: str, client: Google) -> Iterator[str]:
    for name in _machine_types(service, gke):
        try:
            client.get(f"{_ZONE}{zone}/machineTypes/{name}")
        except GoogleError as error:
            if error.status != 404:
                raise
            yield name
    wanted = service.accelerator
    if not wanted.is_gpu or wanted.gke is None:
        return
    cards = {
        str(one["name"]): int(one.get("maximumCardsPerInstance", 0))
        for one in client.items(f"{_ZONE}{zone}/acceleratorTypes", "items")
    }
    if cards.get(wanted.gke.accelerator, 0) < wanted.count:
        yield f"{wanted.count} x {wanted.gke.accelerator}"


def _listing(service: ResolvedStack, client: Google) -> str:
    name = service.accelerator.gke.accelerator if service.accelerator.gke else ""
    return f"gcloud compute accelerator-types list --filter=name={name} --project {client.project}"

"""Whether the project may have as many CPUs, GPUs and disks as the plan's pools can grow to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assist.findings import Finding, ok, problem, unknown
from assist.gke import availability
from assist.gke.google import Google
from assist.gke.prices import Size, machine_type
from stackfile.gke import CpuPool, Gke, GpuPool
from stackfile.resolved import ResolvedStack

_PROJECT = "compute.googleapis.com/compute/v1/projects/{project}"
# One node more than the most while a pool upgrades (infra/gcp/node_pools.py: max_surge).
SURGE = 1
# Families that count against the general CPU quota; the others have one of their own, e.g. N2_CPUS.
_SHARED_CPUS = frozenset({"n1", "e2", "f1", "g1"})


@dataclass(frozen=True)
class Need:
    """So much of a quota: what the pools need at their most, and with the surge of an upgrade."""

    metric: str
    most: float
    surging: float


def quota(service: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield one finding for each quota that the plan draws on. Raises GoogleError."""
    if gke.autopilot:
        yield unknown(
            "quota", "Autopilot sizes nodes by the pods", "compare with: gcloud compute regions list"
        )
        return
    regional = _limits(client.get(f"{_PROJECT}/regions/{gke.region}"))
    everywhere = _limits(client.get(_PROJECT))
    for need in needs(service, gke, availability.sizes(service, gke, client)):
        known, where = (
            (everywhere, "the project") if need.metric == "GPUS_ALL_REGIONS" else (regional, gke.region)
        )
        yield _compare(need, known.get(need.metric), where, client.project)


def needs(service: ResolvedStack, gke: Gke, sizes: dict[str, Size]) -> list[Need]:
    """Return what the pools draw on, summed over pools that draw on the same."""
    amounts: dict[str, tuple[float, float]] = {}
    pools: list[CpuPool | GpuPool] = [gke.cpu_pool, *([gke.gpu_pool] if service.accelerator.is_gpu else [])]
    for pool in pools:
        for metric, each in _drawn(service, pool, sizes).items():
            most, surging = amounts.get(metric, (0, 0))
            amounts[metric] = (most + pool.max_nodes * each, surging + (pool.max_nodes + SURGE) * each)
    return [Need(metric, most, surging) for metric, (most, surging) in amounts.items()]


def _drawn(service: ResolvedStack, pool: CpuPool | GpuPool, sizes: dict[str, Size]) -> dict[str, float]:
    """Return what one node draws on."""
    name = machine_type(service, pool) or ""
    family, spot = name.partition("-")[0], "PREEMPTIBLE_" if pool.spot else ""
    cpus = f"{spot}CPUS" if family in _SHARED_CPUS or pool.spot else f"{family.upper()}_CPUS"
    drawn: dict[str, float] = {cpus: sizes[name].vcpus, "SSD_TOTAL_GB": pool.disk_gib}
    if isinstance(pool, GpuPool) and service.accelerator.gke:
        device = service.accelerator.gke.accelerator.removeprefix("nvidia-").removeprefix("tesla-").upper()
        drawn |= {f"{spot}NVIDIA_{device}_GPUS": service.accelerator.count}
        drawn |= {"GPUS_ALL_REGIONS": service.accelerator.count}
    return drawn


def _limits(document: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {
        str(one["metric"]): (float(one["limit"]), float(one.get("usage", 0)))
        for one in document.get("quotas", ())
    }


def _compare(need: Need, known: tuple[float, float] | None, where: str, project: str) -> Finding:
    check = f"quota {need.metric}"
    if known is None:
        listing = f"gcloud compute regions describe REGION --project {project}"
        return unknown(check, f"Google lists no such quota for {where}", f"look yourself: {listing}")
    limit, usage = known
    cause = f"{need.most:g} needed in {where} at the most, {limit - usage:g} of {limit:g} are free"
    ask = f"raise it to {usage + need.surging:g}: https://console.cloud.google.com/iam-admin/quotas?project={project}"
    if need.most > limit - usage:
        return problem(check, cause, f"{ask}, or lower max_nodes in the stack file")
    if need.surging > limit - usage:
        return ok(check, f"{cause}; an upgrade at the most nodes would wait for one more ({ask})")
    return ok(check, cause)

"""Compares the project's quotas with the CPUs, GPUs and disks of the plan's pools at their largest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assist.findings import Finding, ok, problem, unknown
from assist.gke import availability
from assist.gke.availability import Size, machine_type
from assist.gke.google import Google
from stackfile import ResolvedStack
from stackfile.gke import CpuPool, Gke, GpuPool

_PROJECT = "compute.googleapis.com/compute/v1/projects/{project}"
# One additional node while a pool upgrades (infra/gcp/node_pools.py: max_surge).
SURGE = 1
# Families that count against the general CPU quota; the others have their own, e.g. N2_CPUS.
_SHARED_CPUS = frozenset({"n1", "e2", "f1", "g1"})


@dataclass(frozen=True)
class Need:
    """The use of one quota: by the pools at their largest, and with the surge of an upgrade."""

    metric: str
    most: float
    surging: float


def quota(stack: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield one finding for each quota that the plan uses. Raises GoogleError."""
    if gke.autopilot:
        yield unknown(
            "quota", "Autopilot sizes nodes by the pods", "compare with: gcloud compute regions list"
        )
        return
    regional = _limits(client.get(f"{_PROJECT}/regions/{gke.region}"))
    everywhere = _limits(client.get(_PROJECT))
    for need in needs(stack, gke, availability.sizes(stack, gke, client)):
        limits, where = (
            (everywhere, "the project") if need.metric == "GPUS_ALL_REGIONS" else (regional, gke.region)
        )
        yield _compare(need, limits.get(need.metric), where, client.project)


def needs(stack: ResolvedStack, gke: Gke, sizes: dict[str, Size]) -> list[Need]:
    """Return the use of each quota, summed over the pools."""
    amounts: dict[str, tuple[float, float]] = {}
    for pool in availability.pools(stack, gke):
        for metric, each in _used(stack, pool, sizes).items():
            most, surging = amounts.get(metric, (0, 0))
            amounts[metric] = (most + pool.max_nodes * each, surging + (pool.max_nodes + SURGE) * each)
    return [Need(metric, most, surging) for metric, (most, surging) in amounts.items()]


def _used(stack: ResolvedStack, pool: CpuPool | GpuPool, sizes: dict[str, Size]) -> dict[str, float]:
    """Return one node's use of each quota."""
    name = machine_type(stack, pool) or ""
    family, spot = name.partition("-")[0], "PREEMPTIBLE_" if pool.spot else ""
    cpus = f"{spot}CPUS" if family in _SHARED_CPUS or pool.spot else f"{family.upper()}_CPUS"
    used: dict[str, float] = {cpus: sizes[name].vcpus, "SSD_TOTAL_GB": pool.disk_gib}
    if isinstance(pool, GpuPool) and stack.accelerator.gke:
        device = stack.accelerator.gke.accelerator.removeprefix("nvidia-").removeprefix("tesla-").upper()
        used |= {f"{spot}NVIDIA_{device}_GPUS": stack.accelerator.count}
        used |= {"GPUS_ALL_REGIONS": stack.accelerator.count}
    return used


def _limits(document: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {
        str(one["metric"]): (float(one["limit"]), float(one.get("usage", 0)))
        for one in document.get("quotas", ())
    }


def _compare(need: Need, quota: tuple[float, float] | None, where: str, project: str) -> Finding:
    check = f"quota {need.metric}"
    if quota is None:
        listing = f"gcloud compute regions describe REGION --project {project}"
        return unknown(check, f"Google does not list this quota for {where}", f"check with: {listing}")
    limit, usage = quota
    cause = f"at most {need.most:g} needed in {where}, {limit - usage:g} of {limit:g} free"
    remedy = f"raise the quota to {usage + need.surging:g}: https://console.cloud.google.com/iam-admin/quotas?project={project}"
    if need.most > limit - usage:
        return problem(check, cause, f"{remedy}, or lower max_nodes in the stack file")
    if need.surging > limit - usage:
        return ok(check, f"{cause}; an upgrade of the largest pools would wait for one more node ({remedy})")
    return ok(check, cause)

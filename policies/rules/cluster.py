"""Rules on the cluster and its node pools, and what they may cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import Resource, Rule, StackRule

_CLUSTER = "gcp:container/cluster:Cluster"
_POOL = "gcp:container/nodePool:NodePool"
_TAINT = "nvidia.com/gpu"
# GPUs of a stack with all its pools at their largest, at most: 5 nodes with 4 each.
MOST_GPUS = 20


def _gpus(resource: Resource) -> int:
    """Return the GPUs of one node of a pool; 0 for anything else."""
    if resource.type != _POOL:
        return 0
    config = resource.props.get("nodeConfig") or {}
    return sum(int(item.get("count", 0)) for item in config.get("guestAccelerators") or ())


def _most_nodes(pool: Mapping[str, Any]) -> int | None:
    scaling = pool.get("autoscaling") or {}
    most = scaling.get("totalMaxNodeCount") or scaling.get("maxNodeCount")
    return None if most is None else int(most)


def gpu_pool_is_tainted(resource: Resource) -> Iterator[str]:
    """Refuse a GPU pool that pods without a GPU would fill."""
    config = resource.props.get("nodeConfig") or {}
    if _gpus(resource) and _TAINT not in {taint.get("key") for taint in config.get("taints") or ()}:
        yield f"lacks the {_TAINT} taint; CPU pods would fill it: declare it, GKE does not always add it"


def gpu_pool_is_capped(resource: Resource) -> Iterator[str]:
    """Refuse a GPU pool without an end, or one that never goes down to nothing."""
    if not _gpus(resource):
        return
    most = _most_nodes(resource.props)
    if most is None:
        yield "has no autoscaling maximum; a wrong replica count would buy GPUs without end: set max_nodes"


def production_is_protected(resource: Resource) -> Iterator[str]:
    """Refuse a production cluster that one command deletes."""
    if (
        resource.type == _CLUSTER
        and resource.production
        and resource.props.get("deletionProtection") is not True
    ):
        yield "is production without deletion protection: set gke.deletion_protection: true"


def labelled(resource: Resource) -> Iterator[str]:
    """Refuse what no cost report and no teardown finds."""
    if resource.type == _CLUSTER and not resource.props.get("resourceLabels"):
        yield "has no resourceLabels: teardown and cost reports go by them"
    if resource.type.startswith("kubernetes:") and resource.metadata:
        found = resource.metadata.get("labels") or {}
        missing = {"app.kubernetes.io/part-of", "app.kubernetes.io/name"} - set(found)
        if missing and resource.metadata.get("namespace") != "kube-system":
            yield f"has no label {', '.join(sorted(missing))}: teardown and cost reports go by them"


def within_budget(resources: Sequence[Resource]) -> Iterator[str]:
    """Refuse more GPUs, at the pools' largest, than the budget covers."""
    total = sum(_gpus(resource) * (_most_nodes(resource.props) or 0) for resource in resources)
    if total > MOST_GPUS:
        yield f"may grow to {total} GPUs, above the cap of {MOST_GPUS}: lower gke.gpu_pool.max_nodes"


RULES = (
    Rule("gpu-pool-is-tainted", "GPU pools keep other pods out", gpu_pool_is_tainted),
    Rule("gpu-pool-is-capped", "GPU pools have a maximum", gpu_pool_is_capped),
    Rule("production-is-protected", "A production cluster has deletion protection", production_is_protected),
    Rule("labelled", "Everything is labelled for teardown and cost", labelled),
)
STACK_RULES = (StackRule("within-budget", "The GPUs of a stack stay within the budget", within_budget),)

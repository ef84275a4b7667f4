"""Rules on the cluster, its node pools and their cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import Resource, Rule, StackRule

_CLUSTER = "gcp:container/cluster:Cluster"
_POOL = "gcp:container/nodePool:NodePool"
_TAINT = "nvidia.com/gpu"
# The most GPUs of a stack with all its pools at their largest: 5 nodes with 4 GPUs each.
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
    """Require the GPU taint, without which pods that need no GPU would fill the pool."""
    config = resource.props.get("nodeConfig") or {}
    if _gpus(resource) and _TAINT not in {taint.get("key") for taint in config.get("taints") or ()}:
        yield f"lacks the taint {_TAINT}, so CPU pods would fill the pool: declare it, as GKE may not add it"


def gpu_pool_is_capped(resource: Resource) -> Iterator[str]:
    """Require a maximum of every GPU pool."""
    if not _gpus(resource):
        return
    most = _most_nodes(resource.props)
    if most is None:
        yield "has no autoscaling maximum, so a wrong replica count adds GPUs without limit: set max_nodes"


def production_is_protected(resource: Resource) -> Iterator[str]:
    """Require deletion protection of a production cluster."""
    if (
        resource.type == _CLUSTER
        and resource.production
        and resource.props.get("deletionProtection") is not True
    ):
        yield "is for production, but has no deletion protection: set gke.deletion_protection: true"


def labelled(resource: Resource) -> Iterator[str]:
    """Require the labels by which cost reports and teardown find resources."""
    if resource.type == _CLUSTER and not resource.props.get("resourceLabels"):
        yield "has no resourceLabels, which teardown and cost reports need: set them"
    if resource.type.startswith("kubernetes:") and resource.metadata:
        labels = resource.metadata.get("labels") or {}
        missing = {"app.kubernetes.io/part-of", "app.kubernetes.io/name"} - set(labels)
        if missing and resource.metadata.get("namespace") != "kube-system":
            yield f"has no label {', '.join(sorted(missing))}, which teardown and cost reports need: add it"


def within_budget(resources: Sequence[Resource]) -> Iterator[str]:
    """Limit the GPUs of all pools at their largest to the budget."""
    total = sum(_gpus(resource) * (_most_nodes(resource.props) or 0) for resource in resources)
    if total > MOST_GPUS:
        yield f"can grow to {total} GPUs, above the limit of {MOST_GPUS}: lower gke.gpu_pool.max_nodes"


RULES = (
    Rule("gpu-pool-is-tainted", "GPU pools keep other pods out", gpu_pool_is_tainted),
    Rule("gpu-pool-is-capped", "GPU pools have a maximum", gpu_pool_is_capped),
    Rule("production-is-protected", "A production cluster has deletion protection", production_is_protected),
    Rule("labelled", "Everything is labelled for teardown and cost", labelled),
)
STACK_RULES = (StackRule("within-budget", "The GPUs of a stack stay within the budget", within_budget),)

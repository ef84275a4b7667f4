"""The namespace's quota: what the stack's workloads need at their largest, and no more."""

from dataclasses import dataclass

from infra.k8s.pods import DISK_MIB
from infra.k8s.rollout import surge
from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes

REDIS_CPU_M, REDIS_MEMORY_MIB = 100, 256


@dataclass(frozen=True)
class PodCount:
    """The largest number of pods of one kind, and the size of each."""

    pods: int
    cpu_m: int
    memory_mib: int
    gpus: int = 0


def hard(stack: ResolvedStack) -> dict[str, str]:
    """Return the ResourceQuota's ``hard``: the sum of every workload while all of them roll at once."""
    kubernetes = stack.kubernetes or Kubernetes()
    counts = _counts(stack, kubernetes)
    cpu, memory = (
        sum(count.pods * getattr(count, field) for count in counts) for field in ("cpu_m", "memory_mib")
    )
    pods = sum(count.pods for count in counts)
    disk = f"{pods * DISK_MIB}Mi"
    return {
        "requests.cpu": f"{cpu}m",
        "limits.cpu": f"{cpu}m",
        "requests.memory": f"{memory}Mi",
        "limits.memory": f"{memory}Mi",
        "requests.ephemeral-storage": disk,
        "limits.ephemeral-storage": disk,
        "requests.nvidia.com/gpu": str(sum(count.pods * count.gpus for count in counts)),
        "pods": str(pods),
        "persistentvolumeclaims": "1",
        "requests.storage": f"{kubernetes.store.size_gib}Gi",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }


def _counts(stack: ResolvedStack, kubernetes: Kubernetes) -> list[PodCount]:
    gateway, triton, loader, memory = kubernetes.gateway, kubernetes.triton, kubernetes.loader, stack.memory
    counts = [
        PodCount(gateway.max_replicas + 1, gateway.cpu_m, memory.gateway_mib),
        # The next model's Job may start before the old one is deleted.
        PodCount(2, loader.cpu_m, memory.loader_mib),
    ]
    gpus = stack.accelerator.count if stack.accelerator.is_gpu else 0
    if stack.engine.kind == "triton":
        counts.append(PodCount(triton.replicas + surge(stack), triton.cpu_m, memory.engine_mib, gpus))
    if llama := kubernetes.llama:
        counts.append(PodCount(llama.replicas + surge(stack), llama.cpu_m, memory.engine_mib, gpus))
    if stack.cache.kind == "redis":
        counts.append(PodCount(1, REDIS_CPU_M, REDIS_MEMORY_MIB))
    return counts

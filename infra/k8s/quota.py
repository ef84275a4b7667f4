"""How much the namespace may use: what the stack's workloads need at their largest, and nothing beside it."""

from dataclasses import dataclass

from infra.k8s.pods import DISK_MIB
from infra.k8s.rollout import surge
from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes

REDIS_CPU_M, REDIS_MEMORY_MIB = 100, 256


@dataclass(frozen=True)
class Use:
    """Pods of one kind at their most numerous, with the size of each."""

    pods: int
    cpu_m: int
    memory_mib: int
    gpus: int = 0


def hard(service: ResolvedStack) -> dict[str, str]:
    """Return the ResourceQuota's ``hard``: the sum of every workload while all of them roll at once."""
    kubernetes = service.kubernetes or Kubernetes()
    uses = _uses(service, kubernetes)
    cpu, memory = (sum(use.pods * getattr(use, field) for use in uses) for field in ("cpu_m", "memory_mib"))
    pods = sum(use.pods for use in uses)
    disk = f"{pods * DISK_MIB}Mi"
    return {
        "requests.cpu": f"{cpu}m",
        "limits.cpu": f"{cpu}m",
        "requests.memory": f"{memory}Mi",
        "limits.memory": f"{memory}Mi",
        "requests.ephemeral-storage": disk,
        "limits.ephemeral-storage": disk,
        "requests.nvidia.com/gpu": str(sum(use.pods * use.gpus for use in uses)),
        "pods": str(pods),
        "persistentvolumeclaims": "1",
        "requests.storage": f"{kubernetes.store.size_gib}Gi",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }


def _uses(service: ResolvedStack, kubernetes: Kubernetes) -> list[Use]:
    gateway, triton, loader = kubernetes.gateway, kubernetes.triton, kubernetes.loader
    uses = [
        Use(gateway.max_replicas + 1, gateway.cpu_m, gateway.memory_mib),
        # The next model's job may start before the last one's is gone.
        Use(2, loader.cpu_m, loader.memory_mib),
    ]
    if service.engine.kind == "triton":
        gpus = service.accelerator.count if service.accelerator.is_gpu else 0
        uses.append(Use(triton.replicas + surge(service), triton.cpu_m, triton.memory_mib, gpus))
    if llama := kubernetes.llama:
        uses.append(Use(llama.replicas + 1, llama.cpu_m, llama.memory_mib))
    if service.cache.kind == "redis":
        uses.append(Use(1, REDIS_CPU_M, REDIS_MEMORY_MIB))
    return uses

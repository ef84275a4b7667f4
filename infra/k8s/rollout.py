"""How Deployments replace their pods."""

from pulumi_kubernetes.apps.v1 import DeploymentStrategyArgs, RollingUpdateDeploymentArgs

from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes


def surge(service: ResolvedStack) -> int:
    """Return how many Tritons may start beside the old ones: one on a CPU, else as the spare GPUs allow."""
    if not service.accelerator.is_gpu:
        return 1
    triton = (service.kubernetes or Kubernetes()).triton
    return min(triton.spare_gpus // service.accelerator.count, triton.replicas)


def one_more() -> DeploymentStrategyArgs:
    """Return a roll that starts a pod before it stops one, so that no request finds nobody."""
    return DeploymentStrategyArgs(
        type="RollingUpdate",
        rolling_update=RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
    )


def triton_strategy(service: ResolvedStack) -> DeploymentStrategyArgs:
    """Return how Triton rolls with the GPUs there are.

    A surge without a free GPU waits for ever (opendatahub-io/kserve pull request 1822): with spare GPUs one
    more starts first; else one of several stops first; a single one stops before the next can start.
    """
    extra = surge(service)
    if extra:
        rolling = RollingUpdateDeploymentArgs(max_surge=extra, max_unavailable=0)
    elif service.kubernetes and service.kubernetes.triton.replicas > 1:
        rolling = RollingUpdateDeploymentArgs(max_surge=0, max_unavailable=1)
    else:
        return DeploymentStrategyArgs(type="Recreate")
    return DeploymentStrategyArgs(type="RollingUpdate", rolling_update=rolling)

"""How Deployments replace their pods."""

from pulumi_kubernetes.apps.v1 import DeploymentStrategyArgs, RollingUpdateDeploymentArgs

from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes


def surge(stack: ResolvedStack) -> int:
    """Return how many engine pods may start beside the old ones: 1 on a CPU, else as spare GPUs allow."""
    if not stack.accelerator.is_gpu:
        return 1
    engine = (stack.kubernetes or Kubernetes()).engine
    return min(engine.spare_gpus // stack.accelerator.count, engine.replicas)


def one_more() -> DeploymentStrategyArgs:
    """Return a rolling update that starts a pod before it stops one, so that no request fails."""
    return DeploymentStrategyArgs(
        type="RollingUpdate",
        rolling_update=RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
    )


def engine_strategy(stack: ResolvedStack) -> DeploymentStrategyArgs:
    """Return the engine's update strategy for the available GPUs.

    A surge without a free GPU waits for ever (opendatahub-io/kserve pull request 1822). With spare GPUs an
    additional pod starts first; without, one of several pods stops first, and a single pod stops before its
    successor starts.
    """
    extra = surge(stack)
    if extra:
        rolling = RollingUpdateDeploymentArgs(max_surge=extra, max_unavailable=0)
    elif stack.kubernetes and stack.kubernetes.engine.replicas > 1:
        rolling = RollingUpdateDeploymentArgs(max_surge=0, max_unavailable=1)
    else:
        return DeploymentStrategyArgs(type="Recreate")
    return DeploymentStrategyArgs(type="RollingUpdate", rolling_update=rolling)

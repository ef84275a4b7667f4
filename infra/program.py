"""The parts that the program and the tests share: the stack, the deployment on a provider, the outputs."""

from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra.credentials import Secrets
from infra.k8s.workloads import Workloads
from stackfile import ResolvedStack, load_stack, stack_file
from stackfile.stack import CLUSTERS


class TargetError(Exception):
    """A stack with a target that Pulumi does not deploy; the message names the right command."""


def load(root: Path, name: str) -> ResolvedStack:
    """Return the resolved ``stacks/<name>.yaml``. Raises StackFileError, TargetError."""
    stack = load_stack(stack_file(name, root))
    if stack.target not in CLUSTERS:
        raise TargetError(
            f"stack {name} has target {stack.target}, which Ansible deploys (`make up STACK={name}`);"
            " for Pulumi set target: kubernetes or gke"
        )
    return stack


def deploy(stack: ResolvedStack, secrets: Secrets | None, provider: k8s.Provider) -> dict[str, Any]:
    """Deploy the service on the provider's cluster; return the outputs, which describe its use."""
    opts = pulumi.ResourceOptions(providers=[provider])
    workloads = Workloads(stack.name, stack, secrets=secrets, opts=opts)
    namespace = stack.kubernetes.namespace if stack.kubernetes else ""
    forward = f"kubectl -n {namespace} port-forward service/gateway 5000:{stack.gateway.port}"
    return {
        "url": workloads.url,
        "namespace": namespace,
        "model": f"{stack.model.id}@{stack.model.revision}",
        "keys": "the secret gateway-keys; make more with: assist keys add USER",
        "next": f"{forward}   # then: curl http://127.0.0.1:5000/ready",
    }


def export(outputs: dict[str, Any]) -> None:
    """Export every output of the stack."""
    for name, value in outputs.items():
        pulumi.export(name, value)

"""What the program and the tests share: the stack, the service on a provider, the outputs."""

from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra.credentials import Secrets
from infra.k8s.workloads import Workloads
from stackfile import ResolvedStack, load_stack
from stackfile.stack import CLUSTERS


class TargetError(Exception):
    """A stack that is no cluster's; the message says which command runs it."""


def load(root: Path, stack: str) -> ResolvedStack:
    """Return the service that ``stacks/<stack>.yaml`` describes. Raises StackFileError, TargetError."""
    service = load_stack(root / "stacks" / f"{stack}.yaml")
    if service.target not in CLUSTERS:
        raise TargetError(
            f"stack {stack} has target {service.target}, which Ansible makes (`make up STACK={stack}`);"
            " for Pulumi set target: kubernetes or gke"
        )
    return service


def deploy(service: ResolvedStack, secrets: Secrets | None, provider: k8s.Provider) -> dict[str, Any]:
    """Put the service on the provider's cluster; return the outputs that say how to use it."""
    opts = pulumi.ResourceOptions(providers=[provider])
    workloads = Workloads(service.name, service, secrets=secrets, opts=opts)
    namespace = service.kubernetes.namespace if service.kubernetes else ""
    forward = f"kubectl -n {namespace} port-forward service/gateway 5000:{service.gateway.port}"
    return {
        "url": workloads.url,
        "namespace": namespace,
        "model": f"{service.model.id}@{service.model.revision}",
        "keys": "the secret gateway-keys; make more with: assist keys add USER",
        "next": f"{forward}   # then: curl http://127.0.0.1:5000/ready",
    }


def export(outputs: dict[str, Any]) -> None:
    """Export every output of the stack."""
    for name, value in outputs.items():
        pulumi.export(name, value)

"""The namespace with its guards: Pod Security, quota, limits, and the priority of what serves."""

import pulumi
from pulumi_kubernetes.core.v1 import (
    LimitRange,
    LimitRangeItemArgs,
    LimitRangeSpecArgs,
    Namespace,
    ResourceQuota,
    ResourceQuotaSpecArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.scheduling.v1 import PriorityClass

from infra import naming
from infra.k8s import quota
from infra.k8s.context import Scope
from stackfile import ResolvedStack

# Above pods that say nothing (0), far below the system's own (2000000000).
SERVING_PRIORITY = 100_000


class ServiceNamespace(pulumi.ComponentResource):
    """The namespace and what guards it. On a shared cluster nothing is made: its owner did that."""

    def __init__(self, name: str, service: ResolvedStack, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:ServiceNamespace", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        plain = Scope(service, "")
        self.namespace: pulumi.Input[str] = plain.kubernetes.namespace
        self.priority_class: pulumi.Input[str] | None = None
        if not plain.kubernetes.shared_cluster:
            self.namespace = _namespace(name, plain, child).metadata.name
            scope = Scope(service, self.namespace)
            self.priority_class = _priority(name, scope, child).metadata.name
            _quota(name, scope, child)
            _limits(name, scope, child)
        self.register_outputs({"namespace": self.namespace})


def _namespace(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Namespace:
    security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", "latest"))
    }
    labels = scope.labels("namespace") | security
    return Namespace(
        name, metadata=ObjectMetaArgs(name=scope.kubernetes.namespace, labels=labels), opts=child
    )


def _priority(name: str, scope: Scope, child: pulumi.ResourceOptions) -> PriorityClass:
    return PriorityClass(
        f"{name}-serving",
        metadata=ObjectMetaArgs(
            name=f"{naming.PROJECT}-{scope.service.name}-serving", labels=scope.labels("namespace")
        ),
        value=SERVING_PRIORITY,
        description="What answers editors: placed before batch work, and evicted after it",
        opts=child,
    )


def _quota(name: str, scope: Scope, child: pulumi.ResourceOptions) -> ResourceQuota:
    return ResourceQuota(
        name,
        metadata=scope.metadata("ai-assist", "namespace"),
        spec=ResourceQuotaSpecArgs(hard=quota.hard(scope.service)),
        opts=child,
    )


def _limits(name: str, scope: Scope, child: pulumi.ResourceOptions) -> LimitRange:
    """Return what a container gets that names no size: without it, the quota would refuse the pod."""
    amounts = {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
    item = LimitRangeItemArgs(type="Container", default=amounts, default_request=amounts)
    return LimitRange(
        name,
        metadata=scope.metadata("ai-assist", "namespace"),
        spec=LimitRangeSpecArgs(limits=[item]),
        opts=child,
    )

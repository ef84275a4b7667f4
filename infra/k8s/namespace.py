"""The namespace with its restrictions: Pod Security, quota and limits; and the priority of serving pods."""

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
from infra.k8s.context import Context
from stackfile import ResolvedStack

# Above pods without a priority (0), far below the system's own (2000000000).
SERVING_PRIORITY = 100_000


class ServiceNamespace(pulumi.ComponentResource):
    """The namespace and its restrictions; on a shared cluster nothing, because its owner provides them."""

    def __init__(self, name: str, stack: ResolvedStack, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:ServiceNamespace", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        plain = Context(stack, "")
        self.namespace: pulumi.Input[str] = plain.kubernetes.namespace
        self.priority_class: pulumi.Input[str] | None = None
        if not plain.kubernetes.shared_cluster:
            self.namespace = _namespace(name, plain, child).metadata.name
            context = Context(stack, self.namespace)
            self.priority_class = _priority(name, context, child).metadata.name
            _quota(name, context, child)
            _limits(name, context, child)
        self.register_outputs({"namespace": self.namespace})


def _namespace(name: str, context: Context, child: pulumi.ResourceOptions) -> Namespace:
    security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", "latest"))
    }
    labels = context.labels("namespace") | security
    return Namespace(
        name, metadata=ObjectMetaArgs(name=context.kubernetes.namespace, labels=labels), opts=child
    )


def _priority(name: str, context: Context, child: pulumi.ResourceOptions) -> PriorityClass:
    return PriorityClass(
        f"{name}-serving",
        metadata=ObjectMetaArgs(
            name=f"{naming.PROJECT}-{context.stack.name}-serving", labels=context.labels("namespace")
        ),
        value=SERVING_PRIORITY,
        description="What answers editors: placed before batch work, and evicted after it",
        opts=child,
    )


def _quota(name: str, context: Context, child: pulumi.ResourceOptions) -> ResourceQuota:
    return ResourceQuota(
        name,
        metadata=context.metadata("ai-assist", "namespace"),
        spec=ResourceQuotaSpecArgs(hard=quota.hard(context.stack)),
        opts=child,
    )


def _limits(name: str, context: Context, child: pulumi.ResourceOptions) -> LimitRange:
    """Return the default size of containers: without a size, the quota would refuse the pod."""
    amounts = {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
    item = LimitRangeItemArgs(type="Container", default=amounts, default_request=amounts)
    return LimitRange(
        name,
        metadata=context.metadata("ai-assist", "namespace"),
        spec=LimitRangeSpecArgs(limits=[item]),
        opts=child,
    )

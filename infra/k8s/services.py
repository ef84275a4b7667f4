"""The Services and disruption budgets of the components."""

import pulumi
from pulumi_kubernetes.core.v1 import Service, ServicePortArgs, ServiceSpecArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import naming
from infra.k8s.context import Context

# The application protocol of a named port; all others speak HTTP.
_PROTOCOLS = {"grpc": "kubernetes.io/h2c", "redis": "redis"}


def service(
    name: str,
    context: Context,
    component: str,
    ports: dict[str, int],
    opts: pulumi.ResourceOptions,
    *,
    headless_as: str | None = None,
) -> Service:
    """Return a component's Service for ``ports`` by name; a headless one of that name with ``headless_as``.

    Clients of a headless Service get the address of every pod behind it.
    """
    # Without skipAwait, Pulumi would wait for ready pods before it even makes the Deployment.
    metadata = context.metadata(headless_as or component, component, {"pulumi.com/skipAwait": "true"})
    spec = ServiceSpecArgs(
        cluster_ip="None" if headless_as else None,
        selector=naming.selector(context.stack, component),
        ports=[
            ServicePortArgs(name=key, port=port, target_port=key, app_protocol=_PROTOCOLS.get(key, "http"))
            for key, port in ports.items()
        ],
    )
    return Service(name, metadata=metadata, spec=spec, opts=opts)


def disruption_budget(
    name: str, context: Context, component: str, opts: pulumi.ResourceOptions
) -> PodDisruptionBudget:
    """Return a budget by which a node upgrade takes at most one of the component's pods at a time."""
    return PodDisruptionBudget(
        name,
        metadata=context.metadata(component, component),
        spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=context.selector(component)),
        opts=opts,
    )

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
    metrics: str = "metrics",
) -> Service:
    """Return a component's Service for ``ports`` by name; a headless one of that name with ``headless_as``.

    Clients of a headless Service get the address of every pod behind it. ``metrics`` names the port, if it is
    there, that the annotations of Prometheus' own examples point at.
    """
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(ports.get(metrics))}
    annotations = {"pulumi.com/skipAwait": "true"} | (scraped if metrics in ports else {})
    # Without skipAwait, Pulumi would wait for ready pods before it even makes the Deployment.
    metadata = context.metadata(headless_as or component, component, annotations)
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

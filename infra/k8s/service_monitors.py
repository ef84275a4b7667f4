"""The ServiceMonitors, by which the Prometheus operator scrapes the components."""

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from infra import naming
from infra.k8s.context import Context


class ServiceMonitors(pulumi.ComponentResource):
    """One ServiceMonitor for each component. Needs the operator's CRDs in the cluster."""

    def __init__(
        self,
        name: str,
        context: Context,
        components: list[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:ServiceMonitors", name, None, opts)
        for component in components:
            CustomResource(
                f"{name}-{component}",
                api_version="monitoring.coreos.com/v1",
                kind="ServiceMonitor",
                metadata=context.metadata(component, component),
                spec={
                    "selector": {"matchLabels": naming.selector(context.stack, component)},
                    "endpoints": [{"port": "metrics", "interval": "15s"}],
                },
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})

"""What tells the Prometheus operator to scrape us."""

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from infra import naming
from infra.k8s.context import Scope


class ServiceMonitors(pulumi.ComponentResource):
    """A ServiceMonitor a component. Only for clusters with the operator's CRDs: others refuse the object."""

    def __init__(
        self,
        name: str,
        scope: Scope,
        components: list[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:ServiceMonitors", name, None, opts)
        for component in components:
            CustomResource(
                f"{name}-{component}",
                api_version="monitoring.coreos.com/v1",
                kind="ServiceMonitor",
                metadata=scope.metadata(component, component),
                spec={
                    "selector": {"matchLabels": naming.selector(scope.service, component)},
                    "endpoints": [{"port": "metrics", "interval": "15s"}],
                },
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})

"""What the Prometheus operator takes: a ServiceMonitor for each component, and the alerts."""

from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from infra import naming
from infra.k8s.context import Context
from monitoring import rules

_API = "monitoring.coreos.com/v1"


class ServiceMonitors(pulumi.ComponentResource):
    """One ServiceMonitor for each component, and the rules. Needs the operator's CRDs in the cluster.

    ``components`` has the port of each component's metrics, by name.
    """

    def __init__(
        self,
        name: str,
        context: Context,
        components: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:ServiceMonitors", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        for component, port in components.items():
            # The rules and dashboards of every target know these two labels.
            labels = {"stack": context.stack.name, "job": component}
            relabelings = [{"targetLabel": key, "replacement": value} for key, value in labels.items()]
            CustomResource(
                f"{name}-{component}",
                api_version=_API,
                kind="ServiceMonitor",
                metadata=context.metadata(component, component),
                spec={
                    "selector": {"matchLabels": naming.selector(context.stack, component)},
                    "endpoints": [{"port": port, "interval": "15s", "relabelings": relabelings}],
                },
                opts=child,
            )
        CustomResource(
            f"{name}-rules",
            api_version=_API,
            kind="PrometheusRule",
            metadata=context.metadata("rules", "gateway"),
            spec=rules.rule_file(context.stack),
            opts=child,
        )
        self.register_outputs({})

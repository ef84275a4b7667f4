"""The Ingress: access from outside the cluster, over TLS."""

import pulumi
from pulumi_kubernetes.networking.v1 import (
    HTTPIngressPathArgs,
    HTTPIngressRuleValueArgs,
    Ingress,
    IngressBackendArgs,
    IngressRuleArgs,
    IngressServiceBackendArgs,
    IngressSpecArgs,
    IngressTLSArgs,
    ServiceBackendPortArgs,
)

from infra.k8s import gateway
from infra.k8s.context import Context
from stackfile.kubernetes import IngressSettings

# ingress-nginx ends a response after a minute without a byte, and so a whole answer; other classes ignore it.
_NGINX_TIMEOUT = "nginx.ingress.kubernetes.io/proxy-read-timeout"
# After the gateway's own deadline: it is the gateway that ends an answer.
_MARGIN_S = 15


class GatewayIngress(pulumi.ComponentResource):
    """The Ingress in front of the gateway. ``url`` is the address for editors."""

    def __init__(
        self,
        name: str,
        context: Context,
        settings: IngressSettings,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:GatewayIngress", name, None, opts)
        wait_s = round(context.stack.limits.deadline_s) + _MARGIN_S
        annotations = {_NGINX_TIMEOUT: str(wait_s)} | dict(settings.annotations)
        self.ingress = Ingress(
            name,
            metadata=context.metadata(gateway.NAME, gateway.NAME, annotations),
            spec=IngressSpecArgs(
                ingress_class_name=settings.class_name,
                rules=[_rule(settings.host)],
                tls=[IngressTLSArgs(hosts=[settings.host], secret_name=settings.tls_secret)],
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.url = f"https://{settings.host}"
        self.register_outputs({"url": self.url})


def _rule(host: str) -> IngressRuleArgs:
    port = ServiceBackendPortArgs(name="http")
    backend = IngressBackendArgs(service=IngressServiceBackendArgs(name=gateway.NAME, port=port))
    path = HTTPIngressPathArgs(path="/", path_type="Prefix", backend=backend)
    return IngressRuleArgs(host=host, http=HTTPIngressRuleValueArgs(paths=[path]))

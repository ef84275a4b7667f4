"""Rules on access from outside the cluster."""

from collections.abc import Iterator

from .base import Resource, Rule


def no_open_load_balancer(resource: Resource) -> Iterator[str]:
    """Forbid a Service that is public without TLS."""
    if resource.type != "kubernetes:core/v1:Service":
        return
    kind = (resource.props.get("spec") or {}).get("type", "ClusterIP")
    annotations = resource.metadata.get("annotations") or {}
    internal = annotations.get("networking.gke.io/load-balancer-type") == "Internal"
    if kind in {"LoadBalancer", "NodePort"} and not internal:
        yield f"is a {kind} without TLS: use ClusterIP and the stack's kubernetes.ingress"


def ingress_has_tls(resource: Resource) -> Iterator[str]:
    """Require a certificate for every host of an Ingress."""
    if resource.type != "kubernetes:networking.k8s.io/v1:Ingress":
        return
    spec = resource.props.get("spec") or {}
    covered = {host for entry in spec.get("tls") or () for host in entry.get("hosts") or ()}
    for rule in spec.get("rules") or ():
        if rule.get("host") not in covered:
            yield f"serves {rule.get('host', 'every host')} without TLS: add it to spec.tls"


def gateway_has_auth(resource: Resource) -> Iterator[str]:
    """Require authentication of the gateway."""
    if resource.kind != "Deployment":
        return
    template = (resource.props.get("spec") or {}).get("template") or {}
    for container in (template.get("spec") or {}).get("containers") or ():
        variables = {item.get("name"): item.get("value") for item in container.get("env") or ()}
        if variables.get("ASSIST_AUTH") == "none" or variables.get("BYPASS_EXTERNAL_AUTH") == "true":
            yield "accepts requests without a key: set auth.mode to keys or gitlab"


RULES = (
    Rule("no-open-load-balancer", "No public load balancer without TLS", no_open_load_balancer),
    Rule("ingress-has-tls", "Every host of an Ingress has TLS", ingress_has_tls),
    Rule("gateway-has-auth", "The gateway requires authentication", gateway_has_auth),
)

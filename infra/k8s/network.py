"""Who may talk to whom: nobody, but for what is listed here."""

from urllib.parse import urlsplit

import pulumi
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicy,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)

from infra import naming
from infra.k8s import gateway, llama, redis, triton
from infra.k8s.context import Scope
from stackfile.kubernetes import LLAMA_PORT

# The cloud's metadata service hands out the node's credentials.
_METADATA = "169.254.169.254/32"
_HTTPS = 443


class NetworkPolicies(pulumi.ComponentResource):
    """Deny everything in the namespace both ways, then allow each connection that the service is made of."""

    def __init__(self, name: str, scope: Scope, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:NetworkPolicies", name, None, opts)
        for policy, spec in policies(scope).items():
            NetworkPolicy(
                f"{name}-{policy}",
                metadata=scope.metadata(policy, "network"),
                spec=spec,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def policies(scope: Scope) -> dict[str, NetworkPolicySpecArgs]:
    """Return every policy of this service by name."""
    found = {"default-deny": _deny_all(), "allow-dns": _dns(), "loader": _loader(scope)}
    found[gateway.NAME] = _gateway(scope)
    if scope.service.engine.kind == "triton":
        found[triton.NAME] = _triton(scope)
    if scope.kubernetes.llama:
        found[llama.NAME] = _reached(scope, llama.NAME, [_from_gateway(scope, LLAMA_PORT)])
    if scope.service.cache.kind == "redis":
        found[redis.NAME] = _reached(scope, redis.NAME, [_from_gateway(scope, redis.PORT)])
    return found


def _deny_all() -> NetworkPolicySpecArgs:
    return NetworkPolicySpecArgs(pod_selector=LabelSelectorArgs(), policy_types=["Ingress", "Egress"])


def _dns() -> NetworkPolicySpecArgs:
    ports = [NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
    peer = NetworkPolicyPeerArgs(
        namespace_selector=_named("kube-system"),
        pod_selector=LabelSelectorArgs(match_labels={"k8s-app": "kube-dns"}),
    )
    # GKE's NodeLocal DNSCache answers on the node itself, at a link-local address that no pod selector meets.
    node_local = NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr="169.254.20.10/32"))
    return NetworkPolicySpecArgs(
        pod_selector=LabelSelectorArgs(),
        policy_types=["Egress"],
        egress=[NetworkPolicyEgressRuleArgs(to=[peer, node_local], ports=ports)],
    )


def _loader(scope: Scope) -> NetworkPolicySpecArgs:
    """Allow HTTPS, and the proxy's port, to anywhere: a model hub's addresses change."""
    ports = {_HTTPS}
    if scope.kubernetes.loader.https_proxy:
        ports.add(_port_of(scope.kubernetes.loader.https_proxy))
    return NetworkPolicySpecArgs(
        pod_selector=scope.selector("loader"), policy_types=["Egress"], egress=[_outside(sorted(ports))]
    )


def _gateway(scope: Scope) -> NetworkPolicySpecArgs:
    service, ingress = scope.service, scope.kubernetes.ingress
    # Without an Ingress any pod of the cluster may ask; the keys say who gets an answer.
    clients = [
        NetworkPolicyPeerArgs(
            namespace_selector=_named(ingress.namespace) if ingress else LabelSelectorArgs()
        )
    ]
    egress = []
    if service.engine.kind == "triton":
        egress.append(_egress(_pods(scope, triton.NAME), [service.triton.grpc_port]))
    if scope.kubernetes.llama:
        egress.append(_egress(_pods(scope, llama.NAME), [LLAMA_PORT]))
    elif service.engine.url:
        egress.append(_outside([_port_of(service.engine.url)]))
    if service.auth.mode == "gitlab":
        gitlab = {_port_of(service.auth.gitlab_url), _port_of(service.auth.gitlab_api_url)}
        egress.append(_outside(sorted(gitlab)))
    if service.cache.kind == "redis":
        egress.append(_egress(_pods(scope, redis.NAME), [redis.PORT]))
    return NetworkPolicySpecArgs(
        pod_selector=scope.selector(gateway.NAME),
        policy_types=["Ingress", "Egress"],
        ingress=[
            NetworkPolicyIngressRuleArgs(from_=clients, ports=_ports([service.gateway.port])),
            _scraped(scope, service.gateway.metrics_port),
        ],
        egress=egress,
    )


def _triton(scope: Scope) -> NetworkPolicySpecArgs:
    service = scope.service.triton
    rules = [_from_gateway(scope, service.grpc_port), _scraped(scope, service.metrics_port)]
    return _reached(scope, triton.NAME, rules)


def _reached(
    scope: Scope, component: str, rules: list[NetworkPolicyIngressRuleArgs]
) -> NetworkPolicySpecArgs:
    return NetworkPolicySpecArgs(
        pod_selector=scope.selector(component), policy_types=["Ingress"], ingress=rules
    )


def _from_gateway(scope: Scope, port: int) -> NetworkPolicyIngressRuleArgs:
    return NetworkPolicyIngressRuleArgs(from_=[_pods(scope, gateway.NAME)], ports=_ports([port]))


def _scraped(scope: Scope, port: int) -> NetworkPolicyIngressRuleArgs:
    prometheus = NetworkPolicyPeerArgs(namespace_selector=_named(scope.kubernetes.monitoring.namespace))
    return NetworkPolicyIngressRuleArgs(from_=[prometheus], ports=_ports([port]))


def _outside(ports: list[int]) -> NetworkPolicyEgressRuleArgs:
    anywhere = IPBlockArgs(cidr="0.0.0.0/0", except_=[_METADATA])
    return _egress(NetworkPolicyPeerArgs(ip_block=anywhere), ports)


def _egress(peer: NetworkPolicyPeerArgs, ports: list[int]) -> NetworkPolicyEgressRuleArgs:
    return NetworkPolicyEgressRuleArgs(to=[peer], ports=_ports(ports))


def _pods(scope: Scope, component: str) -> NetworkPolicyPeerArgs:
    labels = naming.selector(scope.service, component)
    return NetworkPolicyPeerArgs(pod_selector=LabelSelectorArgs(match_labels=labels))


def _named(namespace: str) -> LabelSelectorArgs:
    return LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": namespace})


def _ports(ports: list[int]) -> list[NetworkPolicyPortArgs]:
    return [NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else 80)

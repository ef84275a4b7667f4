"""The network policies: default-deny, and the connections that are allowed."""

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
from infra.k8s.context import Context
from stackfile.kubernetes import LLAMA_PORT

# The cloud's metadata service, which gives out the node's credentials.
_METADATA = "169.254.169.254/32"
_HTTPS = 443


class NetworkPolicies(pulumi.ComponentResource):
    """Denies all traffic in the namespace, both ways, then allows each connection of the components."""

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:NetworkPolicies", name, None, opts)
        for policy, spec in policies(context).items():
            NetworkPolicy(
                f"{name}-{policy}",
                metadata=context.metadata(policy, "network"),
                spec=spec,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def policies(context: Context) -> dict[str, NetworkPolicySpecArgs]:
    """Return every policy by name."""
    specs = {"default-deny": _deny_all(), "allow-dns": _dns(), "loader": _loader(context)}
    specs[gateway.NAME] = _gateway(context)
    if context.stack.engine.kind == "triton":
        specs[triton.NAME] = _triton(context)
    if context.kubernetes.llama:
        # llama.cpp's server has its metrics on the port of its API.
        rules = [_from_gateway(context, LLAMA_PORT), _scraped(context, LLAMA_PORT)]
        specs[llama.NAME] = _reached(context, llama.NAME, rules)
    if context.stack.cache.kind == "redis":
        specs[redis.NAME] = _reached(context, redis.NAME, [_from_gateway(context, redis.PORT)])
    return specs


def _deny_all() -> NetworkPolicySpecArgs:
    return NetworkPolicySpecArgs(pod_selector=LabelSelectorArgs(), policy_types=["Ingress", "Egress"])


def _dns() -> NetworkPolicySpecArgs:
    ports = [NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
    peer = NetworkPolicyPeerArgs(
        namespace_selector=_named("kube-system"),
        pod_selector=LabelSelectorArgs(match_labels={"k8s-app": "kube-dns"}),
    )
    # GKE's NodeLocal DNSCache responds on the node, at a link-local address that no pod selector matches.
    node_local = NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr="169.254.20.10/32"))
    return NetworkPolicySpecArgs(
        pod_selector=LabelSelectorArgs(),
        policy_types=["Egress"],
        egress=[NetworkPolicyEgressRuleArgs(to=[peer, node_local], ports=ports)],
    )


def _loader(context: Context) -> NetworkPolicySpecArgs:
    """Allow HTTPS and the ports of proxy and index to any address: a model hub's addresses change."""
    loader = context.kubernetes.loader
    ports = {_HTTPS, *(_port_of(url) for url in (loader.https_proxy, loader.package_index) if url)}
    return NetworkPolicySpecArgs(
        pod_selector=context.selector("loader"), policy_types=["Egress"], egress=[_outside(sorted(ports))]
    )


def _gateway(context: Context) -> NetworkPolicySpecArgs:
    stack, ingress = context.stack, context.kubernetes.ingress
    # Without an Ingress any pod of the cluster may connect; the gateway still requires a key.
    clients = [
        NetworkPolicyPeerArgs(
            namespace_selector=_named(ingress.namespace) if ingress else LabelSelectorArgs()
        )
    ]
    egress = []
    if stack.engine.kind == "triton":
        egress.append(_egress(_pods(context, triton.NAME), [stack.triton.grpc_port]))
    if context.kubernetes.llama:
        egress.append(_egress(_pods(context, llama.NAME), [LLAMA_PORT]))
    elif stack.engine.url:
        egress.append(_outside([_port_of(stack.engine.url)]))
    if stack.auth.mode == "gitlab":
        gitlab = {_port_of(stack.auth.gitlab_url), _port_of(stack.auth.gitlab_api_url)}
        egress.append(_outside(sorted(gitlab)))
    if stack.cache.kind == "redis":
        egress.append(_egress(_pods(context, redis.NAME), [redis.PORT]))
    return NetworkPolicySpecArgs(
        pod_selector=context.selector(gateway.NAME),
        policy_types=["Ingress", "Egress"],
        ingress=[
            NetworkPolicyIngressRuleArgs(from_=clients, ports=_ports([stack.gateway.port])),
            _scraped(context, stack.gateway.metrics_port),
        ],
        egress=egress,
    )


def _triton(context: Context) -> NetworkPolicySpecArgs:
    stack = context.stack.triton
    rules = [_from_gateway(context, stack.grpc_port), _scraped(context, stack.metrics_port)]
    return _reached(context, triton.NAME, rules)


def _reached(
    context: Context, component: str, rules: list[NetworkPolicyIngressRuleArgs]
) -> NetworkPolicySpecArgs:
    return NetworkPolicySpecArgs(
        pod_selector=context.selector(component), policy_types=["Ingress"], ingress=rules
    )


def _from_gateway(context: Context, port: int) -> NetworkPolicyIngressRuleArgs:
    return NetworkPolicyIngressRuleArgs(from_=[_pods(context, gateway.NAME)], ports=_ports([port]))


def _scraped(context: Context, port: int) -> NetworkPolicyIngressRuleArgs:
    prometheus = NetworkPolicyPeerArgs(namespace_selector=_named(context.kubernetes.monitoring.namespace))
    return NetworkPolicyIngressRuleArgs(from_=[prometheus], ports=_ports([port]))


def _outside(ports: list[int]) -> NetworkPolicyEgressRuleArgs:
    anywhere = IPBlockArgs(cidr="0.0.0.0/0", except_=[_METADATA])
    return _egress(NetworkPolicyPeerArgs(ip_block=anywhere), ports)


def _egress(peer: NetworkPolicyPeerArgs, ports: list[int]) -> NetworkPolicyEgressRuleArgs:
    return NetworkPolicyEgressRuleArgs(to=[peer], ports=_ports(ports))


def _pods(context: Context, component: str) -> NetworkPolicyPeerArgs:
    labels = naming.selector(context.stack, component)
    return NetworkPolicyPeerArgs(pod_selector=LabelSelectorArgs(match_labels=labels))


def _named(namespace: str) -> LabelSelectorArgs:
    return LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": namespace})


def _ports(ports: list[int]) -> list[NetworkPolicyPortArgs]:
    return [NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else 80)

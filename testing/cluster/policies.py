"""A small NetworkPolicy enforcer for the real node: one node, IPv4, nftables.

    policies.py KUBECTL KUBECONFIG

Reads the API about once a second and writes one nftables table in the node's network namespace. Knows podSelector,
namespaceSelector, ipBlock with except, ports with names and endPort, ingress and egress. (GKE's is Dataplane V2.)
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

TABLE = "ai_assist_policies"
Labels = dict[str, str]
# An address or a range, and what of the range is meant not to be.
Peer = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Pod:
    """What a policy can say of a pod."""

    namespace: str
    name: str
    labels: Labels
    address: str
    ports: dict[str, int] = field(hash=False)


@dataclass(frozen=True)
class Direction:
    """One of the two ways: where a policy has its rules, and which address is whose."""

    kind: str
    rules: str
    peers: str
    peer_address: str
    own_address: str


DIRECTIONS = (
    Direction("Ingress", "ingress", "from", "saddr", "daddr"),
    Direction("Egress", "egress", "to", "daddr", "saddr"),
)


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    """Return whether a label selector selects these labels."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: dict[str, Any], labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


@dataclass(frozen=True)
class Cluster:
    """What the API server has, as far as policies ask for it."""

    namespaces: dict[str, Labels]
    pods: list[Pod]
    policies: list[dict[str, Any]]

    def peers(self, namespace: str, peers: list[dict[str, Any]] | None) -> list[Peer] | None:
        """Return who is meant; None for anybody."""
        if not peers:
            return None
        found: list[Peer] = []
        for peer in peers:
            if block := peer.get("ipBlock"):
                found.append((block["cidr"], tuple(block.get("except") or ())))
            else:
                found += [(pod.address, ()) for pod in self.pods if self._is_peer(peer, namespace, pod)]
        return found

    def _is_peer(self, peer: dict[str, Any], namespace: str, pod: Pod) -> bool:
        if "namespaceSelector" in peer:
            inside = selects(peer["namespaceSelector"], self.namespaces.get(pod.namespace, {}))
        else:
            inside = pod.namespace == namespace
        return inside and selects(peer.get("podSelector", {}), pod.labels)

    def policies_of(self, pod: Pod, direction: Direction) -> list[dict[str, Any]]:
        """Return the policies that say something of a pod's connections in that direction."""
        return [
            policy
            for policy in self.policies
            if policy["metadata"]["namespace"] == pod.namespace
            and selects(policy["spec"].get("podSelector") or {}, pod.labels)
            and direction.kind in _kinds(policy["spec"])
        ]


def _kinds(spec: dict[str, Any]) -> list[str]:
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    kinds: list[str] = spec.get("policyTypes") or default
    return kinds


def matches(ports: list[dict[str, Any]] | None, named: dict[str, int]) -> list[str]:
    """Return nftables' matches of a rule's ports; one empty match for any port."""
    if not ports:
        return [""]
    found = []
    for port in ports:
        protocol, number = port.get("protocol", "TCP").lower(), port.get("port")
        if isinstance(number, str):
            if number not in named:
                continue
            number = named[number]
        if number is None:
            found.append(f"meta l4proto {protocol}")
        else:
            found.append(f"{protocol} dport {number}" + (f"-{port['endPort']}" if "endPort" in port else ""))
    return found


def chain(cluster: Cluster, pod: Pod, direction: Direction) -> list[str] | None:
    """Return the rules for a pod's connections in a direction; None where no policy says anything of them."""
    policies = cluster.policies_of(pod, direction)
    if not policies:
        return None
    lines = []
    for policy in policies:
        for rule in policy["spec"].get(direction.rules) or []:
            peers = cluster.peers(pod.namespace, rule.get(direction.peers))
            named = pod.ports if direction.kind == "Ingress" else {}
            for match in matches(rule.get("ports"), named):
                if peers is None:
                    lines.append(f"{match} return")
                for address, but in peers or ():
                    others = f"ip {direction.peer_address} != {{ {', '.join(but)} }}" if but else ""
                    lines.append(f"ip {direction.peer_address} {address} {others} {match} return")
    return [*lines, "counter drop"]


def ruleset(cluster: Cluster) -> str:
    """Return the whole table, which replaces the one before in one step."""
    chains, jumps = [], []
    for pod in cluster.pods:
        for direction in DIRECTIONS:
            if lines := chain(cluster, pod, direction):
                name = f"{direction.rules}_{pod.address.replace('.', '_')}"
                body = "".join(f"    {' '.join(line.split())}\n" for line in lines)
                chains.append(f"  chain {name} {{ # {pod.namespace}/{pod.name}\n{body}  }}\n")
                jumps.append(f"    ip {direction.own_address} {pod.address} jump {name}\n")
    hook = (
        "    type filter hook forward priority 10; policy accept;\n    ct state established,related accept\n"
    )
    forward = f"  chain forward {{\n{hook}{''.join(jumps)}  }}\n"
    return f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{''.join(chains)}{forward}}}\n"


def read(kubectl: str, kubeconfig: str) -> Cluster:
    """Return what the API server has now.

    Raises:
        subprocess.SubprocessError: Where it does not answer.

    """

    def items(kind: str) -> list[dict[str, Any]]:
        command = [kubectl, "--kubeconfig", kubeconfig, "get", kind, "-A", "-o", "json"]
        done = subprocess.run(command, check=True, capture_output=True, timeout=30)
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found

    namespaces = {
        item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in items("namespaces")
    }
    return Cluster(
        namespaces, [pod for item in items("pods") if (pod := _pod(item))], items("networkpolicies")
    )


def _pod(item: dict[str, Any]) -> Pod | None:
    """Return a pod that has an address of its own, which a policy can be enforced on."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    address = status.get("podIP", "")
    if (
        not address
        or ":" in address
        or spec.get("hostNetwork")
        or status["phase"] not in {"Running", "Pending"}
    ):
        return None
    ports = [port for container in spec["containers"] for port in container.get("ports") or ()]
    named = {port["name"]: port["containerPort"] for port in ports if "name" in port}
    return Pod(metadata["namespace"], metadata["name"], metadata.get("labels") or {}, address, named)


def main() -> None:
    """Enforce policies until killed."""
    applied = None
    while True:
        try:
            wanted = ruleset(read(*sys.argv[1:3]))
            if wanted != applied:
                subprocess.run(["nft", "-f", "-"], input=wanted.encode(), check=True, capture_output=True)
                applied = wanted
                sys.stdout.write(f"{time.strftime('%T')} applied {wanted.count('chain ') - 1} pods' rules\n")
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            sys.stdout.write(f"{time.strftime('%T')} {error} {getattr(error, 'stderr', b'')!r}\n")
        sys.stdout.flush()
        time.sleep(1)


if __name__ == "__main__":
    main()

"""The NetworkPolicy enforcer's rules, for what the project's policies and the API allow."""

from typing import Any

import pytest

from testing.cluster.policies import Cluster, Pod, ruleset, selects

WEB = Pod("shop", "web", {"app": "web"}, "10.244.0.2", {"http": 8080})
FRIEND = Pod("shop", "friend", {"app": "friend"}, "10.244.0.3", {})
STRANGER = Pod("other", "stranger", {"app": "stranger"}, "10.244.0.4", {})
NAMESPACES = {"shop": {"team": "a"}, "other": {"team": "b"}}


def rules(chain: str, *policies: dict[str, Any]) -> list[str] | None:
    """Return one chain's rules."""
    made = [{"metadata": {"name": "p", "namespace": "shop"}, "spec": spec} for spec in policies]
    text = ruleset(Cluster(NAMESPACES, [WEB, FRIEND, STRANGER], made))
    if f"jump {chain}\n" not in text:
        return None
    body = text.partition(f"chain {chain} {{")[2].partition("  }")[0]
    return [line.strip() for line in body.splitlines()[1:]]


def test_a_pod_that_no_policy_selects_is_not_touched():
    assert (
        rules("ingress_10_244_0_3", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": []}) is None
    )


def test_default_deny_drops_both_directions():
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert rules("ingress_10_244_0_2", deny) == ["counter drop"]
    assert rules("egress_10_244_0_2", deny) == ["counter drop"]


@pytest.mark.parametrize(
    ("peer", "addresses"),
    [
        ({"podSelector": {"matchLabels": {"app": "friend"}}}, ["10.244.0.3"]),
        ({"podSelector": {}}, ["10.244.0.2", "10.244.0.3"]),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, ["10.244.0.4"]),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "friend"}}}, ["10.244.0.3"]),
    ],
)
def test_peers_are_the_pods_that_both_selectors_select(peer: dict[str, Any], addresses: list[str]):
    policy = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [peer]}]}
    assert rules("ingress_10_244_0_2", policy) == [f"ip saddr {a} return" for a in addresses] + [
        "counter drop"
    ]


def test_a_port_has_a_number_a_name_a_range_or_a_protocol_alone():
    ports = [
        {"port": 80},
        {"port": "http"},
        {"port": "unknown"},
        {"port": 53, "protocol": "UDP"},
        {"port": 90, "endPort": 99},
        {"protocol": "TCP"},
    ]
    policy = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": ports}]}
    assert rules("ingress_10_244_0_2", policy) == [
        "tcp dport 80 return",
        "tcp dport 8080 return",
        "udp dport 53 return",
        "tcp dport 90-99 return",
        "meta l4proto tcp return",
        "counter drop",
    ]


def test_a_block_has_its_exceptions():
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}
    policy = {
        "podSelector": {"matchLabels": {"app": "web"}},
        "egress": [{"to": [block]}],
        "policyTypes": ["Egress"],
    }
    assert rules("egress_10_244_0_2", policy) == [
        "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 192.168.0.0/16 } return",
        "counter drop",
    ]


def test_a_policy_for_one_direction_leaves_the_other_alone():
    ingress = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}
    assert rules("egress_10_244_0_2", ingress) is None
    assert rules("egress_10_244_0_2", {"podSelector": {}, "ingress": []}) is None
    assert rules("egress_10_244_0_2", {"podSelector": {}, "egress": []}) == ["counter drop"]


def test_policies_add_up():
    one = {"podSelector": {}, "ingress": [{"ports": [{"port": 1}]}]}
    two = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 2}]}]}
    assert rules("ingress_10_244_0_2", one, two) == [
        "tcp dport 1 return",
        "tcp dport 2 return",
        "counter drop",
    ]


@pytest.mark.parametrize(
    ("operator", "values", "selected"),
    [
        ("In", ["web", "x"], True),
        ("In", ["x"], False),
        ("NotIn", ["x"], True),
        ("NotIn", ["web"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_expressions_of_selectors(operator: str, values: list[str] | None, selected: bool):
    expression = {"key": "app", "operator": operator} | ({"values": values} if values else {})
    assert selects({"matchExpressions": [expression]}, {"app": "web"}) is selected

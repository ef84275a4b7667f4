"""A recorded deployment as a Terraform plan, which is what checkov reads: it has no runner for Pulumi."""

import re
from typing import Any

from pulumi.runtime import MockResourceArgs

KINDS = {
    "gcp:compute/network:Network": "google_compute_network",
    "gcp:compute/subnetwork:Subnetwork": "google_compute_subnetwork",
    "gcp:compute/router:Router": "google_compute_router",
    "gcp:compute/routerNat:RouterNat": "google_compute_router_nat",
    "gcp:container/cluster:Cluster": "google_container_cluster",
    "gcp:container/nodePool:NodePool": "google_container_node_pool",
    "gcp:projects/iAMMember:IAMMember": "google_project_iam_member",
    "gcp:projects/service:Service": "google_project_service",
    "gcp:serviceaccount/account:Account": "google_service_account",
}
# Pulumi names lists in the plural and leaves maps alone; Terraform names a block once for each of its items.
SINGULAR = {
    "taints": "taint",
    "guest_accelerators": "guest_accelerator",
    "secondary_ip_ranges": "secondary_ip_range",
}
MAPS = {"resource_labels", "labels", "metadata"}


def plan(resources: list[MockResourceArgs]) -> dict[str, Any]:
    """Return the plan that creates Google's ones among ``resources``. Raises KeyError for a kind not in KINDS."""
    planned = [_resource(one) for one in resources if one.typ.startswith("gcp:")]
    changes = [
        one | {"change": {"actions": ["create"], "before": None, "after": one["values"]}} for one in planned
    ]
    return {
        "format_version": "1.2",
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": planned}},
        "resource_changes": changes,
        "configuration": {"root_module": {}},
    }


def _resource(one: MockResourceArgs) -> dict[str, Any]:
    kind, name = KINDS[one.typ], re.sub(r"\W", "_", one.name)
    return {
        "address": f"{kind}.{name}",
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider_name": "registry.terraform.io/hashicorp/google",
        "schema_version": 1,
        "values": _block(one.inputs),
    }


def _block(given: dict[str, Any]) -> dict[str, Any]:
    snake = {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower(): value for name, value in given.items()}
    return {
        SINGULAR.get(name, name): value if name in MAPS else _value(value) for name, value in snake.items()
    }


def _value(given: Any) -> Any:
    if isinstance(given, dict):
        return [_block(given)]
    if isinstance(given, list):
        return [_block(item) if isinstance(item, dict) else item for item in given]
    return int(given) if isinstance(given, float) else given

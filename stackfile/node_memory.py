"""The memory that GKE leaves for pods on a node, by its machine type."""

import re

# GiB for each vCPU, or for each GPU of the types that are named by those.
_FAMILIES = {
    "a2-highgpu": 85.0,
    "a2-ultragpu": 170.0,
    "c3-standard": 4.0,
    "c3-highmem": 8.0,
    "e2-highmem": 8.0,
    "e2-standard": 4.0,
    "g2-standard": 4.0,
    "n1-highmem": 6.5,
    "n1-standard": 3.75,
    "n2-highmem": 8.0,
    "n2-standard": 4.0,
    "n2d-standard": 4.0,
}
# What GKE reserves: a share of each part of the memory, the parts in GiB, and a constant for evictions
# (https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes).
_RESERVED = ((4.0, 0.25), (4.0, 0.20), (8.0, 0.10), (112.0, 0.06), (float("inf"), 0.02))
_EVICTION_MIB = 100
# Pods of every node: the network, logging and metrics agents, and a GPU's device plugin.
_SYSTEM_PODS_MIB = 700


def machine_gib(machine_type: str) -> float | None:
    """Return the memory of a machine type in GiB; None for one that is not known here."""
    match = re.fullmatch(r"([a-z0-9]+-[a-z]+)-([0-9]+)g?", machine_type)
    family = _FAMILIES.get(match[1]) if match else None
    return family * int(match[2]) if match and family else None


def for_pods(gib: float) -> int:
    """Return the MiB that pods of the service can request on a node of ``gib`` GiB."""
    left, reserved = gib, 0.0
    for part, share in _RESERVED:
        reserved += min(left, part) * share
        left -= min(left, part)
    return int((gib - reserved) * 1024) - _EVICTION_MIB - _SYSTEM_PODS_MIB

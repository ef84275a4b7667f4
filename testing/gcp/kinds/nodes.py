"""What GKE wants of the machines of a node pool, and what it says of them itself."""

import re
from collections.abc import Iterator
from typing import Any

from testing.gcp.cloud import GoogleError, State
from testing.gcp.kinds.base import Inputs
from testing.gcp.kinds.identity import needs_account

# How many of an accelerator fit a machine, and in which families they come (cloud.google.com/compute/docs/gpus).
_GPUS: dict[str, tuple[str, tuple[int, ...]]] = {
    "nvidia-tesla-t4": (r"n1-(standard|highmem|highcpu)-\d+|n1-custom-.*", (1, 2, 4)),
    "nvidia-tesla-v100": (r"n1-(standard|highmem|highcpu)-\d+|n1-custom-.*", (1, 2, 4, 8)),
    "nvidia-l4": (r"g2-standard-\d+", (1, 2, 4, 8)),
    "nvidia-tesla-a100": (r"a2-(highgpu|megagpu)-\d+g", (1, 2, 4, 8, 16)),
    "nvidia-a100-80gb": (r"a2-ultragpu-\d+g", (1, 2, 4, 8)),
}
_MACHINE = re.compile(r"[a-z][a-z0-9]*-[a-z0-9-]+")
_BUILT_IN_GPU = {"a2": "nvidia-tesla-a100", "g2": "nvidia-l4"}
_LABEL = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}

ALLOWED = {
    "taints[].effect": ("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"),
    "imageType": ("COS_CONTAINERD", "UBUNTU_CONTAINERD", "COS", "UBUNTU", "WINDOWS_LTSC_CONTAINERD"),
    "diskType": ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced"),
    "workloadMetadataConfig.mode": ("MODE_UNSPECIFIED", "GCE_METADATA", "GKE_METADATA"),
    "guestAccelerators[].gpuDriverInstallationConfig.gpuDriverVersion": (
        "GPU_DRIVER_VERSION_UNSPECIFIED",
        "INSTALLATION_DISABLED",
        "DEFAULT",
        "LATEST",
    ),
}
LEAST = {"diskSizeGb": 10, "guestAccelerators[].count": 0}
# What makes new nodes of old ones by making a new pool.
REPLACES = (
    {"guestAccelerators", "localSsdCount", "ephemeralStorageLocalSsdConfig", "localNvmeSsdBlockConfig"}
    | {
        "secondaryBootDisks",
        "metadata",
        "minCpuPlatform",
        "oauthScopes",
        "preemptible",
        "reservationAffinity",
    }
    | {"spot", "serviceAccount", "shieldedInstanceConfig", "sandboxConfig", "bootDiskKmsKey", "nodeGroup"}
    | {"advancedMachineFeatures", "soleTenantConfig", "hostMaintenancePolicy", "enableConfidentialStorage"}
    | {"localSsdEncryptionMode", "maxRunDuration", "flexStart", "confidentialNodes.confidentialInstanceType"}
)


def admit(state: State, config: Inputs) -> None:
    """Raise GoogleError for nodes that GKE does not make."""
    for fault in _faults(config):
        raise GoogleError(400, fault, "badRequest")
    if config.get("serviceAccount") not in {None, "default"}:
        needs_account(state, config["serviceAccount"])


def _faults(config: Inputs) -> Iterator[str]:
    machine = config.get("machineType", "e2-medium")
    if not _MACHINE.fullmatch(machine):
        yield f'Machine type with name "{machine}" does not exist'
    if config.get("spot") and config.get("preemptible"):
        yield "Only one of spot and preemptible can be true"
    yield from _gpu_faults(config, machine)
    for label in config.get("labels", {}):
        if not _LABEL.fullmatch(label) or label.startswith("kubernetes.io/"):
            yield f'Invalid node label "{label}"'
    for taint in config.get("taints", ()):
        if not _LABEL.fullmatch(taint["key"]):
            yield f'Invalid taint key "{taint["key"]}"'


def _gpu_faults(config: Inputs, machine: str) -> Iterator[str]:
    for device in config.get("guestAccelerators", ()):
        families, counts = _GPUS.get(device["type"], ("", ()))
        if not counts:
            yield f'Accelerator type "{device["type"]}" does not exist'
        elif not re.fullmatch(families, machine):
            yield f'Accelerator type "{device["type"]}" cannot be attached to machine type "{machine}"'
        elif device["count"] not in counts:
            yield f'Accelerator type "{device["type"]}" comes as {counts} for each node, not {device["count"]}'


def has_gpu(config: Inputs) -> bool:
    """Return whether nodes have a GPU, attached or built in."""
    attached = any(device.get("count", 0) for device in config.get("guestAccelerators", ()))
    return attached or config.get("machineType", "").partition("-")[0] in _BUILT_IN_GPU


def completed(config: Inputs, *, beside_cpu_nodes: bool) -> dict[str, Any]:
    """Return node settings with GKE's defaults, and the taints that its nodes really have.

    GKE taints GPU nodes by itself where the cluster has nodes without GPU, and only there.
    """
    taints = list(config.get("taints", ()))
    if has_gpu(config) and beside_cpu_nodes and GPU_TAINT not in taints:
        taints.append(GPU_TAINT)
    defaults = {
        "machineType": "e2-medium",
        "diskSizeGb": 100,
        "diskType": "pd-balanced",
        "imageType": "COS_CONTAINERD",
        "serviceAccount": "default",
        "loggingVariant": "DEFAULT",
        "localSsdCount": 0,
        "preemptible": False,
        "spot": False,
        "metadata": {"disable-legacy-endpoints": "true"},
    }
    return defaults | config | {"effectiveTaints": taints}

"""What all our pods have in common: Pod Security ``restricted``, sizes, the model store, where they run."""

from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import (
    AffinityArgs,
    CapabilitiesArgs,
    ContainerArgs,
    EmptyDirVolumeSourceArgs,
    HTTPGetActionArgs,
    LocalObjectReferenceArgs,
    PersistentVolumeClaimVolumeSourceArgs,
    PodAffinityArgs,
    PodAffinityTermArgs,
    PodSecurityContextArgs,
    PodSpecArgs,
    ProbeArgs,
    ResourceRequirementsArgs,
    SeccompProfileArgs,
    SecurityContextArgs,
    TolerationArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs

from infra.k8s.context import PULL_SECRET, Scope

# Above the ids that base images hand out; the images own their files as this user.
USER = 10001
STORE_CLAIM = "model-store"
STORE_PATH = "/models"
GPU = "nvidia.com/gpu"
# All pods with this label share a ReadWriteOnce volume, which one node can mount.
STORE_LABEL = {"ai-assist/store": STORE_CLAIM}
_TEMPORARY_MIB = 64
# What a pod may write to its node's disk: /tmp and a model repository of 64 MiB each, and its logs, of which
# a kubelet keeps 50 MiB. Models are on the store's volume, and a volume in memory counts as memory.
DISK_MIB = 256


def container(name: str, image: str, resources: ResourceRequirementsArgs, **settings: Any) -> ContainerArgs:  # noqa: ANN401 -- ContainerArgs checks them
    """Return a container that Pod Security ``restricted`` accepts, with a /tmp it may write to."""
    mounts = [*settings.pop("volume_mounts", ()), VolumeMountArgs(name="tmp", mount_path="/tmp")]  # noqa: S108 -- the pod's own
    return ContainerArgs(
        name=name,
        image=image,
        image_pull_policy="IfNotPresent",
        resources=resources,
        volume_mounts=mounts,
        security_context=SecurityContextArgs(
            allow_privilege_escalation=False,
            privileged=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            run_as_user=USER,
            capabilities=CapabilitiesArgs(drop=["ALL"]),
        ),
        **settings,
    )


def pod(scope: Scope, containers: list[ContainerArgs], **settings: Any) -> PodSpecArgs:  # noqa: ANN401 -- PodSpecArgs checks them
    """Return a pod without an API token, as a numeric user, with a bounded /tmp and any pull secret."""
    volumes = [*settings.pop("volumes", ()), memory_volume("tmp", _TEMPORARY_MIB, medium=None)]
    secrets = [LocalObjectReferenceArgs(name=PULL_SECRET)] if scope.kubernetes.registry else None
    return PodSpecArgs(
        containers=containers,
        volumes=volumes,
        image_pull_secrets=secrets,
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            fs_group_change_policy="OnRootMismatch",
            seccomp_profile=SeccompProfileArgs(type="RuntimeDefault"),
        ),
        **settings,
    )


def size(cpu_m: int, memory_mib: int, gpus: int = 0) -> ResourceRequirementsArgs:
    """Return requests equal to limits, so that no neighbour's burst is paid by a request in flight."""
    amounts = {"cpu": f"{cpu_m}m", "memory": f"{memory_mib}Mi", "ephemeral-storage": f"{DISK_MIB}Mi"}
    if gpus:
        amounts[GPU] = str(gpus)
    return ResourceRequirementsArgs(requests=amounts, limits=amounts)


def memory_volume(name: str, mib: int, medium: str | None = "Memory") -> VolumeArgs:
    """Return a bounded scratch volume, in memory unless ``medium`` says otherwise."""
    return VolumeArgs(name=name, empty_dir=EmptyDirVolumeSourceArgs(medium=medium, size_limit=f"{mib}Mi"))


def store_volume(*, read_only: bool) -> VolumeArgs:
    """Return the model store; only the loader writes."""
    claim = PersistentVolumeClaimVolumeSourceArgs(claim_name=STORE_CLAIM, read_only=read_only)
    return VolumeArgs(name="store", persistent_volume_claim=claim)


def store_mount(*, read_only: bool) -> VolumeMountArgs:
    """Return where the model store appears in a container."""
    return VolumeMountArgs(name="store", mount_path=STORE_PATH, read_only=read_only)


def model_dir(scope: Scope) -> str:
    """Return the directory that is served: the converted model, or the model where it is ready GGUF."""
    service = scope.service
    suffix = "" if service.model.format == "gguf" else f".{service.variant}"
    return f"{STORE_PATH}/{service.model.id}/current{suffix}"


def wait_for_model(scope: Scope, image: str, resources: ResourceRequirementsArgs) -> ContainerArgs:
    """Return the container that holds a pod back until the loader has published the model.

    Without it a pod would crash until then, and wait out a back-off of up to 5 min with the model there.
    It fails after the loader's own time, so that a missing model shows as restarts, not as an endless start.
    """
    loop = f"until [ -e {model_dir(scope)}/manifest.json ]; do sleep 1; done"
    wait_s = str(scope.kubernetes.loader.wait_s)
    command = ["timeout", wait_s, "sh", "-c", loop]
    mounts = [store_mount(read_only=True)]
    return container("wait-for-model", image, resources, command=command, volume_mounts=mounts)


def placement(scope: Scope, *, gpu: bool) -> dict[str, Any]:
    """Return the settings that say where a pod may run: on GPU nodes, or with the volume's other pods."""
    kubernetes, accelerator = scope.kubernetes, scope.service.accelerator
    together = kubernetes.store.access_mode == "ReadWriteOnce"
    settings: dict[str, Any] = {}
    if gpu or together:
        settings["node_selector"] = kubernetes.triton.node_selector or None
        if accelerator.is_gpu:
            settings["tolerations"] = [TolerationArgs(key=GPU, operator="Exists", effect="NoSchedule")]
    if together:
        term = PodAffinityTermArgs(
            topology_key="kubernetes.io/hostname", label_selector=LabelSelectorArgs(match_labels=STORE_LABEL)
        )
        settings["affinity"] = AffinityArgs(
            pod_affinity=PodAffinityArgs(required_during_scheduling_ignored_during_execution=[term])
        )
    return settings


def http_probe(path: str, port: str, *, period_s: int, failures: int, timeout_s: int = 3) -> ProbeArgs:
    """Return a probe that asks ``path`` every ``period_s`` and gives up after ``failures`` in a row."""
    return ProbeArgs(
        http_get=HTTPGetActionArgs(path=path, port=port),
        period_seconds=period_s,
        failure_threshold=failures,
        timeout_seconds=timeout_s,
    )


def timeouts(seconds: int) -> pulumi.CustomTimeouts:
    """Return how long Pulumi waits for a workload: its own 10 min are less than a GPU node takes."""
    return pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s", delete="10m")

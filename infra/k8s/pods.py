"""What all our pods share: Pod Security ``restricted``, sizes, the model store, and their placement."""

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

from infra.k8s.context import PULL_SECRET, Context

# Above the ids of base images; this user owns the files of our images.
USER = 10001
STORE_CLAIM = "model-store"
STORE_PATH = "/models"
GPU = "nvidia.com/gpu"
# All pods with this label share a ReadWriteOnce volume, which one node at a time can mount.
STORE_LABEL = {"ai-assist/store": STORE_CLAIM}
_TEMPORARY_MIB = 64
# A pod's space on its node's disk: /tmp and a model repository of 64 MiB each, and logs, of which a kubelet
# keeps 50 MiB. Models are on the store's volume, and a volume in memory counts as memory.
DISK_MIB = 256


def container(name: str, image: str, resources: ResourceRequirementsArgs, **settings: Any) -> ContainerArgs:  # noqa: ANN401 -- ContainerArgs checks them
    """Return a container that Pod Security ``restricted`` accepts, with a writable /tmp."""
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


def pod(context: Context, containers: list[ContainerArgs], **settings: Any) -> PodSpecArgs:  # noqa: ANN401 -- PodSpecArgs checks them
    """Return a pod without an API token, as a numeric user, with a bounded /tmp and any pull secret."""
    volumes = [*settings.pop("volumes", ()), memory_volume("tmp", _TEMPORARY_MIB, medium=None)]
    secrets = [LocalObjectReferenceArgs(name=PULL_SECRET)] if context.kubernetes.registry else None
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
    """Return requests equal to limits, so that a neighbour's burst does not slow requests in flight."""
    amounts = {"cpu": f"{cpu_m}m", "memory": f"{memory_mib}Mi", "ephemeral-storage": f"{DISK_MIB}Mi"}
    if gpus:
        amounts[GPU] = str(gpus)
    return ResourceRequirementsArgs(requests=amounts, limits=amounts)


def memory_volume(name: str, mib: int, medium: str | None = "Memory") -> VolumeArgs:
    """Return a bounded scratch volume, in memory unless ``medium`` says otherwise."""
    return VolumeArgs(name=name, empty_dir=EmptyDirVolumeSourceArgs(medium=medium, size_limit=f"{mib}Mi"))


def store_volume(*, read_only: bool) -> VolumeArgs:
    """Return the volume of the model store, which only the loader writes."""
    claim = PersistentVolumeClaimVolumeSourceArgs(claim_name=STORE_CLAIM, read_only=read_only)
    return VolumeArgs(name="store", persistent_volume_claim=claim)


def store_mount(*, read_only: bool) -> VolumeMountArgs:
    """Return the mount of the model store in a container."""
    return VolumeMountArgs(name="store", mount_path=STORE_PATH, read_only=read_only)


def model_dir(context: Context) -> str:
    """Return the served directory: the converted model, or the model itself for GGUF."""
    stack = context.stack
    suffix = "" if stack.model.format == "gguf" else f".{stack.variant}"
    return f"{STORE_PATH}/{stack.model.id}/current{suffix}"


def wait_for_model(context: Context, image: str, resources: ResourceRequirementsArgs) -> ContainerArgs:
    """Return the init container that waits until the loader has published the model.

    Without it the pod would crash until then, and stay in a back-off of up to 5 min after the publication.
    The container fails after the loader's own timeout, so that a missing model shows as restarts instead of
    an endless start.
    """
    loop = f"until [ -e {model_dir(context)}/manifest.json ]; do sleep 1; done"
    timeout_s = str(context.kubernetes.loader.wait_timeout_s)
    command = ["timeout", timeout_s, "sh", "-c", loop]
    mounts = [store_mount(read_only=True)]
    return container("wait-for-model", image, resources, command=command, volume_mounts=mounts)


def placement(context: Context, *, gpu: bool) -> dict[str, Any]:
    """Return the settings of a pod's placement: on GPU nodes, or with the volume's other pods."""
    kubernetes, accelerator = context.kubernetes, context.stack.accelerator
    together = kubernetes.store.access_mode == "ReadWriteOnce"
    settings: dict[str, Any] = {}
    if gpu or together:
        settings["node_selector"] = kubernetes.engine.node_selector or None
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
    """Return a probe of ``path`` every ``period_s`` that fails after ``failures`` in a row."""
    return ProbeArgs(
        http_get=HTTPGetActionArgs(path=path, port=port),
        period_seconds=period_s,
        failure_threshold=failures,
        timeout_seconds=timeout_s,
    )


def timeouts(seconds: int) -> pulumi.CustomTimeouts:
    """Return Pulumi's timeouts for a workload: its default of 10 min is shorter than a GPU node's start."""
    return pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s", delete="10m")

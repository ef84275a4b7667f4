"""The node pools: one for everything except the model, and one for each generation of GPU nodes."""

from typing import Any

import pulumi
import pulumi_gcp as gcp

from infra.gcp.cluster_settings import SCOPE
from infra.gcp.project import labels
from stackfile.gke import CpuPool, Gke, GpuPool
from stackfile.resolved import ResolvedAccelerator

# GPU nodes arrive when Google has some: these timeouts let a creation wait for a stock-out to end.
TIMEOUTS = pulumi.CustomTimeouts(create="60m", update="90m", delete="60m")
GPU_TAINT = gcp.container.NodePoolNodeConfigTaintArgs(
    key="nvidia.com/gpu", value="present", effect="NO_SCHEDULE"
)
POOL_LABEL = "ai-assist/pool"
# GKE's own installation of the driver (in mode "daemonset" a DaemonSet installs the driver instead).
_DRIVER = {"gke": "DEFAULT", "daemonset": "INSTALLATION_DISABLED", "none": "INSTALLATION_DISABLED"}


class NodePool(pulumi.ComponentResource):
    """An autoscaled pool of Container-Optimized OS nodes.

    Pulumi generates the pool's name: with a fixed name, a replacement would delete the old pool first and
    leave no capacity until the new one exists. The node count is not set, because the autoscaler owns it.
    """

    def __init__(
        self,
        name: str,
        settings: gcp.container.NodePoolNodeConfigArgs,
        *,
        gke: Gke,
        pool: CpuPool | GpuPool,
        cluster: gcp.container.Cluster,
        after: list[pulumi.Resource],
        frozen: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:gcp:NodePool", name, None, opts)
        self.pool = gcp.container.NodePool(
            name,
            cluster=cluster.id,
            location=gke.location,
            node_locations=list(gke.zones),
            version=_version(gke, cluster),
            autoscaling=gcp.container.NodePoolAutoscalingArgs(
                total_min_node_count=pool.min_nodes,
                total_max_node_count=pool.max_nodes,
                # For GPUs, any zone with one left is better than an even spread; CPU nodes are never scarce.
                location_policy="ANY" if isinstance(pool, GpuPool) else "BALANCED",
            ),
            management=gcp.container.NodePoolManagementArgs(
                auto_repair=True, auto_upgrade=gke.release_channel != "none"
            ),
            # One additional node during upgrades, so that the last GPU serves until its successor is ready.
            upgrade_settings=gcp.container.NodePoolUpgradeSettingsArgs(
                strategy="SURGE", max_surge=1, max_unavailable=0
            ),
            node_config=settings,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=after,
                custom_timeouts=TIMEOUTS,
                ignore_changes=["nodeConfig"] if frozen else [],
            ),
        )
        self.register_outputs({"name": self.pool.name})


def _version(gke: Gke, cluster: gcp.container.Cluster) -> pulumi.Input[str] | None:
    """Return the nodes' version: that of the control plane, where the stack names only the beginning of one.

    Google stores a node pool's version in full; a shorter one would be a change in each preview
    (https://registry.terraform.io/providers/hashicorp/google/latest/docs/resources/container_node_pool#version).
    """
    short = gke.version is not None and "-gke." not in gke.version
    return cluster.master_version if short else gke.version


def cpu_nodes(stack: str, pool: CpuPool, account: pulumi.Input[str]) -> gcp.container.NodePoolNodeConfigArgs:
    """Return the settings of the nodes for everything except the model."""
    return gcp.container.NodePoolNodeConfigArgs(
        machine_type=pool.machine_type, **_nodes(stack, "cpu", pool, account)
    )


def gpu_nodes(
    stack: str, pool: GpuPool, accelerator: ResolvedAccelerator, account: pulumi.Input[str]
) -> gcp.container.NodePoolNodeConfigArgs:
    """Return the settings of the GPU nodes. Raises ValueError for an accelerator that GKE does not offer."""
    if accelerator.gke is None:
        raise ValueError(f"GKE does not offer {accelerator.kind}: choose t4, l4 or a100 in the stack file")
    nodes = _nodes(stack, "gpu", pool, account)
    if pool.driver == "none":
        # The operator that installs the driver brings its own device plugin; two would conflict.
        nodes["labels"] |= {"gke-no-default-nvidia-gpu-device-plugin": "true"}
    device = gcp.container.NodePoolNodeConfigGuestAcceleratorArgs(
        type=accelerator.gke.accelerator,
        count=accelerator.count,
        gpu_driver_installation_config=gcp.container.NodePoolNodeConfigGuestAcceleratorGpuDriverInstallationConfigArgs(
            gpu_driver_version=_DRIVER[pool.driver]
        ),
    )
    return gcp.container.NodePoolNodeConfigArgs(
        machine_type=pool.machine_type or accelerator.gke.machine_type,
        guest_accelerators=[device],
        # GKE usually adds this taint itself; undeclared, the taint would later appear as a change.
        taints=[GPU_TAINT],
        **nodes,
    )


def _nodes(stack: str, role: str, pool: CpuPool | GpuPool, account: pulumi.Input[str]) -> dict[str, Any]:
    return {
        "service_account": account,
        "oauth_scopes": [SCOPE],
        "image_type": "COS_CONTAINERD",
        "disk_type": "pd-balanced",
        "disk_size_gb": pool.disk_gib,
        "spot": pool.spot,
        "labels": {POOL_LABEL: role},
        "resource_labels": labels(stack),
        # Image streaming: a pod starts before its image of several GB has arrived.
        "gcfs_config": {"enabled": True},
        "metadata": {"disable-legacy-endpoints": "true"},
        "shielded_instance_config": {"enable_secure_boot": True, "enable_integrity_monitoring": True},
        "workload_metadata_config": {"mode": "GKE_METADATA"},
    }

"""Driver mode ``daemonset``: installs the pinned NVIDIA driver with the installer in Google's node image."""

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from stackfile.resolved import ResolvedStack

NAME, NAMESPACE = "nvidia-driver-installer", "kube-system"
# Part of Container-Optimized OS and never pulled; the driver's version, below, is pinned instead.
INSTALLER = "cos-nvidia-installer:fixed"
PAUSE = "registry.k8s.io/pause:3.10@sha256:ee6521f290b2168b6e0935a181d4cff9be1ac3f505666ef0e3c98fae8199917a"
# The driver's folders: for GKE's own device plugin on the host, and for the installer in its container.
_MOUNTS = {
    "nvidia": ("/home/kubernetes/bin/nvidia", "/usr/local/nvidia"),
    "vulkan": ("/home/kubernetes/bin/nvidia/vulkan/icd.d", "/etc/vulkan/icd.d"),
    "cos-tools": ("/var/lib/cos-tools", "/build/cos-tools"),
    "root": ("/", "/root"),
    "dev": ("/dev", "/dev"),
}
_ENVIRONMENT = {
    "NVIDIA_INSTALL_DIR_HOST": _MOUNTS["nvidia"][0],
    "NVIDIA_INSTALL_DIR_CONTAINER": _MOUNTS["nvidia"][1],
    "VULKAN_ICD_DIR_HOST": _MOUNTS["vulkan"][0],
    "VULKAN_ICD_DIR_CONTAINER": _MOUNTS["vulkan"][1],
    "COS_TOOLS_DIR_HOST": _MOUNTS["cos-tools"][0],
    "COS_TOOLS_DIR_CONTAINER": _MOUNTS["cos-tools"][1],
    "ROOT_MOUNT_DIR": _MOUNTS["root"][1],
}


def install(stack: ResolvedStack, provider: k8s.Provider) -> "DriverInstaller | None":
    """Return the installer where the stack's driver mode is ``daemonset``, else None."""
    gke = stack.gke
    if gke is None or gke.autopilot or not stack.accelerator.is_gpu:
        return None
    if gke.gpu_pool.driver != "daemonset" or gke.gpu_pool.driver_version is None:
        return None
    opts = pulumi.ResourceOptions(providers=[provider])
    return DriverInstaller(NAME, gke.gpu_pool.driver_version, opts=opts)


class DriverInstaller(pulumi.ComponentResource):
    """A DaemonSet on the GPU nodes that installs one driver version and then idles.

    Loading a kernel module requires a privileged container with the node's root; hence the namespace
    ``kube-system``, where Pod Security does not apply, and no token for the API server.
    """

    def __init__(self, name: str, version: str, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:gcp:DriverInstaller", name, None, opts)
        marks = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "ai-assist"}
        spec: Any = {
            "selector": {"match_labels": {"app.kubernetes.io/name": NAME}},
            "update_strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": marks}, "spec": _pod(version)},
        }
        self.daemon_set = k8s.apps.v1.DaemonSet(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=NAMESPACE, labels=marks),
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _pod(version: str) -> dict[str, Any]:
    return {
        "automount_service_account_token": False,
        "host_network": True,
        "host_pid": True,
        "priority_class_name": "system-node-critical",
        "affinity": {"node_affinity": _GPU_NODES_WITHOUT_DRIVER},
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": name, "host_path": {"path": host}} for name, (host, _) in _MOUNTS.items()],
        "init_containers": [_installer(version)],
        "containers": [
            {
                "name": "installed",
                "image": PAUSE,
                "resources": _resources("10m", "16Mi"),
                "security_context": {
                    "allow_privilege_escalation": False,
                    "read_only_root_filesystem": True,
                    "run_as_non_root": True,
                    "run_as_user": 65535,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


# GKE labels nodes whose driver it manages itself; two installers on one node would break both.
_GPU_NODES_WITHOUT_DRIVER = {
    "required_during_scheduling_ignored_during_execution": {
        "node_selector_terms": [
            {
                "match_expressions": [
                    {"key": "cloud.google.com/gke-accelerator", "operator": "Exists"},
                    {"key": "cloud.google.com/gke-gpu-driver-version", "operator": "DoesNotExist"},
                ]
            }
        ]
    }
}


def _installer(version: str) -> dict[str, Any]:
    return {
        "name": "install",
        "image": INSTALLER,
        "image_pull_policy": "Never",
        "command": ["/cos-gpu-installer", "install", f"--version={version}"],
        "env": [{"name": name, "value": value} for name, value in _ENVIRONMENT.items()],
        "security_context": {"privileged": True},
        "volume_mounts": [{"name": name, "mount_path": inside} for name, (_, inside) in _MOUNTS.items()],
        "resources": _resources("150m", "512Mi"),
    }


def _resources(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}

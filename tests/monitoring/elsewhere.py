"""Metrics of the dashboards that neither this machine nor a host has: who gives them, and their labels.

What is here is not evaluated against a real scrape, so it is kept to what the exporters document.
"""

_CONTAINER = frozenset({"namespace", "pod", "container"})
_VOLUME = frozenset({"namespace", "persistentvolumeclaim"})
# DCGM's exporter names the pod that uses a GPU; a host's file, under the same names, does not.
_GPU = frozenset({"namespace", "pod", "container", "gpu"})

EXPORTERS: dict[str, dict[str, frozenset[str]]] = {
    # https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md, in the kubelet
    "cadvisor": {
        "container_cpu_usage_seconds_total": _CONTAINER,
        "container_cpu_cfs_throttled_seconds_total": _CONTAINER,
        "container_memory_working_set_bytes": _CONTAINER,
        "container_network_receive_bytes_total": frozenset({"namespace", "pod", "interface"}),
        "container_network_transmit_bytes_total": frozenset({"namespace", "pod", "interface"}),
    },
    "kubelet": {"kubelet_volume_stats_available_bytes": _VOLUME},
    # https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/pod-metrics.md
    "kube-state-metrics": {
        "kube_pod_container_resource_limits": _CONTAINER | {"resource", "unit", "node"},
        "kube_pod_container_status_ready": _CONTAINER,
        "kube_pod_container_status_restarts_total": _CONTAINER,
        "kube_pod_status_phase": frozenset({"namespace", "pod", "phase"}),
        "kube_pod_status_unschedulable": frozenset({"namespace", "pod"}),
    },
    "dcgm-exporter": {
        "DCGM_FI_DEV_GPU_UTIL": _GPU,
        "DCGM_FI_DEV_FB_USED": _GPU,
        "DCGM_FI_DEV_GPU_TEMP": _GPU,
    },
    # Triton has it where llama.cpp is the runtime; the toy model's is CTranslate2.
    "llama.cpp in Triton": {"llamacpp:prompt_tokens_cached_total": frozenset({"stack", "instance"})},
    # Prometheus makes it while an alert waits or fires, which none does here.
    "Prometheus": {"ALERTS": frozenset({"stack", "alertname", "alertstate", "severity"})},
}
METRICS = {metric: labels for metrics in EXPORTERS.values() for metric, labels in metrics.items()}


def has(metric: str, labels: set[str]) -> bool:
    """Return whether the metric with these labels is one of those that only other targets have."""
    return metric in METRICS and labels <= METRICS[metric]

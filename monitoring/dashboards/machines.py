"""Dashboards on where the service runs: loader and updates, one host, one pod."""

from monitoring.dashboards.panels import (
    STACK,
    STACKS,
    WINDOW,
    Panel,
    Query,
    board,
    choice,
    lines,
    listing,
    value,
)

_HOST = f'{STACK}, host="$host"'
_DISK = 'fstype!~"tmpfs|ramfs|overlay|squashfs"'
_POD = 'namespace="$namespace", pod=~"$pod"'
_CONTAINER = f'{_POD}, container!=""'
_NOISE = ("Value", "__name__")


def updates() -> str:
    """Return the dashboard on versions, loads and the store's disk."""
    return board(
        "updates",
        "loader and updates",
        "Which release and model each process has, how long models take to load, and what room is left.",
        {
            "Now": _now(),
            "Versions": _versions(),
            "Store": _store(),
        },
    )


def _now() -> list[Panel]:
    releases = f"count(count by (release) (assist_build_info{{{STACK}}}))"
    pinned = (
        f"count(assist_engine_model_info{{{STACK}}} unless on (stack, model, revision) "
        f"assist_model_wanted_info{{{STACK}}}) or vector(0)"
    )
    expires = f"min(assist_certificate_expires_timestamp_seconds{{{STACK}}}) - time()"
    return [
        value(
            "Releases at the same time",
            "none",
            releases,
            "More than one: an update is under way, or half done.",
        ),
        value("Engines with another model", "none", pinned, "Than the stack names."),
        value(
            "Gateways that stop", "none", f"sum(assist_draining{{{STACK}}})", "They finish what they have."
        ),
        value("Slowest load of a model", "s", f"max(assist_engine_load_seconds{{{STACK}}})"),
        value("Processes that respond", "percentunit", f"avg(up{{{STACK}}})"),
        value("Certificate expires in", "s", expires),
    ]


def _versions() -> list[Panel]:
    return [
        listing(
            "Releases",
            "none",
            f"max by (release, instance) (assist_build_info{{{STACK}}})",
            hidden=_NOISE,
        ),
        listing(
            "Models that engines serve",
            "none",
            f"max by (model, revision, instance) (assist_engine_model_info{{{STACK}}})",
            hidden=_NOISE,
        ),
        listing(
            "Models that the stack names",
            "none",
            f"count by (model, revision) (assist_model_wanted_info{{{STACK}}})",
            "The value is the number of gateways that say so.",
        ),
        lines(
            "Releases over time",
            "none",
            Query(f"count by (release) (assist_build_info{{{STACK}}})", "{{release}}"),
            stacked=True,
        ),
        lines("Time to load the model", "s", Query(f"assist_engine_load_seconds{{{STACK}}}", "{{instance}}")),
        lines(
            "Time since the start",
            "s",
            Query(f"time() - process_start_time_seconds{{{STACK}}}", "{{job}} {{instance}}"),
        ),
    ]


def _store() -> list[Panel]:
    disk = f"{STACK}, {_DISK}"
    free, size = (f"node_filesystem_{name}_bytes{{{disk}}}" for name in ("avail", "size"))
    return [
        lines("Free on hosts' disks", "bytes", Query(free, "{{host}} {{mountpoint}}")),
        lines(
            "Free on hosts' disks, share", "percentunit", Query(f"{free} / {size}", "{{host}} {{mountpoint}}")
        ),
        lines(
            "Free on hosts' disks in 24 hours, as in the last 6",
            "bytes",
            Query(f"clamp_min(predict_linear({free}[6h], 86400), 0)", "{{host}} {{mountpoint}}"),
            about="0: full by then. Clusters' volumes are on the pods' dashboard.",
        ),
    ]


def host() -> str:
    """Return the dashboard on one host, from the node exporter."""
    return board(
        "host",
        "one host",
        "Processors, memory, disks, network, clock and GPUs of a host of the target `hosts`.",
        {"Host": _host(), "GPUs": _host_gpus()},
        (STACKS, choice("host", "Host", f"label_values(up{{{STACK}}}, host)")),
    )


def _host() -> list[Panel]:
    cpu = f'sum by (mode) (rate(node_cpu_seconds_total{{{_HOST}, mode!="idle"}}[{WINDOW}]))'
    network = f'{_HOST}, device!="lo"'
    disk = f"node_filesystem_avail_bytes{{{_HOST}, {_DISK}}}"
    return [
        lines("Processors", "none", Query(cpu, "{{mode}}"), about="Cores.", stacked=True),
        lines(
            "Load",
            "none",
            Query(f"node_load1{{{_HOST}}}", "1 min"),
            Query(f"node_load15{{{_HOST}}}", "15 min"),
        ),
        lines(
            "Memory",
            "bytes",
            Query(f"node_memory_MemAvailable_bytes{{{_HOST}}}", "available"),
            Query(f"node_memory_MemTotal_bytes{{{_HOST}}}", "all"),
        ),
        lines("Free disk", "bytes", Query(disk, "{{mountpoint}}")),
        lines(
            "Network",
            "Bps",
            Query(f"rate(node_network_receive_bytes_total{{{network}}}[{WINDOW}])", "in {{device}}"),
            Query(f"rate(node_network_transmit_bytes_total{{{network}}}[{WINDOW}])", "out {{device}}"),
        ),
        lines("Processes that respond", "none", Query(f"up{{{_HOST}}}", "{{job}} {{instance}}")),
        lines(
            "Clock",
            "s",
            Query(f"abs(node_timex_offset_seconds{{{_HOST}}})", "offset"),
            Query(f"node_timex_maxerror_seconds{{{_HOST}}}", "largest error"),
        ),
        lines(
            "Swapped in and out",
            "none",
            Query(f"rate(node_vmstat_pswpin{{{_HOST}}}[{WINDOW}])", "in"),
            Query(f"rate(node_vmstat_pswpout{{{_HOST}}}[{WINDOW}])", "out"),
            about="Pages per second.",
        ),
        lines("Up since", "s", Query(f"time() - node_boot_time_seconds{{{_HOST}}}", "up")),
    ]


def _host_gpus() -> list[Panel]:
    def each(metric: str, unit: str, title: str) -> Panel:
        return lines(title, unit, Query(f"{metric}{{{_HOST}}}", "GPU {{gpu}}"))

    return [
        each("DCGM_FI_DEV_GPU_UTIL", "percent", "In use"),
        each("DCGM_FI_DEV_FB_USED", "mbytes", "Memory in use"),
        each("DCGM_FI_DEV_GPU_TEMP", "celsius", "Temperature"),
        each("DCGM_FI_DEV_POWER_USAGE", "watt", "Power"),
        each("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "none", "Memory errors not corrected"),
        lines(
            "GPUs",
            "none",
            Query(f"assist_gpus{{{_HOST}}}", "respond"),
            Query(f"assist_gpus_wanted{{{_HOST}}}", "wanted"),
            Query(f"assist_gpu_driver_up{{{_HOST}}}", "driver responds"),
        ),
    ]


def pod() -> str:
    """Return the dashboard on pods, from what a cluster has for its pods anyway."""
    return board(
        "pod",
        "one pod",
        "Processors, memory, restarts, volumes and GPU of pods. The metrics are those of the kubelet, of "
        "kube-state-metrics and of NVIDIA's DCGM exporter.",
        {"Pod": _pod(), "Node pool": _pool(), "GPU": _pod_gpu()},
        (
            choice("namespace", "Namespace", "label_values(kube_pod_info, namespace)"),
            choice("pod", "Pod", 'label_values(kube_pod_info{namespace="$namespace"}, pod)', several=True),
        ),
    )


def _pod() -> list[Panel]:
    each = "{{pod}} {{container}}"

    def limit(resource: str) -> Query:
        return Query(
            f'kube_pod_container_resource_limits{{{_CONTAINER}, resource="{resource}"}}', f"limit {each}"
        )

    def counted(metric: str, labels: str = _CONTAINER) -> str:
        return f"rate({metric}{{{labels}}}[{WINDOW}])"

    return [
        lines(
            "Processors",
            "none",
            Query(counted("container_cpu_usage_seconds_total"), each),
            limit("cpu"),
            about="Cores.",
        ),
        lines(
            "Memory",
            "bytes",
            Query(f"container_memory_working_set_bytes{{{_CONTAINER}}}", each),
            limit("memory"),
        ),
        lines(
            "Held back by the processor limit",
            "s",
            Query(counted("container_cpu_cfs_throttled_seconds_total"), each),
        ),
        lines("Restarts", "none", Query(f"kube_pod_container_status_restarts_total{{{_CONTAINER}}}", each)),
        lines(
            "Containers that are ready",
            "none",
            Query(f"kube_pod_container_status_ready{{{_CONTAINER}}}", each),
        ),
        lines(
            "Network",
            "Bps",
            Query(counted("container_network_receive_bytes_total", _POD), "in {{pod}}"),
            Query(counted("container_network_transmit_bytes_total", _POD), "out {{pod}}"),
        ),
    ]


def _pool() -> list[Panel]:
    here = 'namespace="$namespace"'
    free = f"kubelet_volume_stats_available_bytes{{{here}}}"
    return [
        lines("Pods without a node", "none", Query(f"kube_pod_status_unschedulable{{{here}}}", "{{pod}}")),
        lines(
            "Pods, by phase", "none", Query(f"sum by (phase) (kube_pod_status_phase{{{here}}})", "{{phase}}")
        ),
        lines("Free on volumes", "bytes", Query(free, "{{persistentvolumeclaim}}")),
    ]


def _pod_gpu() -> list[Panel]:
    legend = "{{pod}} GPU {{gpu}}"
    return [
        lines("GPU in use", "percent", Query(f"DCGM_FI_DEV_GPU_UTIL{{{_POD}}}", legend)),
        lines("GPU memory in use", "mbytes", Query(f"DCGM_FI_DEV_FB_USED{{{_POD}}}", legend)),
        lines("GPU temperature", "celsius", Query(f"DCGM_FI_DEV_GPU_TEMP{{{_POD}}}", legend)),
    ]

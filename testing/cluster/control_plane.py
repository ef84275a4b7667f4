"""etcd, the API server, the controllers and the scheduler, and kwok for what is simulated."""

import ssl
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing import tools
from testing.cluster.processes import Processes

HERE = Path(__file__).resolve().parent
SERVICES, API_SERVICE, DNS_SERVICE = "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
PODS, SIMULATED_PODS = "10.244.0.0/16", "10.200.0.0/16"


@dataclass(frozen=True)
class Addresses:
    """Where the control plane listens: on ``ip``; the API server there and, in a node of its own, everywhere."""

    ip: str
    api: int
    etcd: int
    peer: int
    kwok: int
    everywhere: bool

    @property
    def server(self) -> str:
        """Return the API server's address for who is where it is."""
        return f"https://{self.ip}:{self.api}"


def program(name: str) -> Path:
    """Return one of Kubernetes' programs."""
    return tools.file("kubernetes", name)


def _options(**values: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def start_etcd(processes: Processes, at: Addresses, state: Path) -> None:
    """Start etcd on the loopback. Nothing is synced to the disk: what a crash loses is a test's."""
    data = state / "etcd"
    data.mkdir(mode=0o700, exist_ok=True)
    clients, peers = f"http://127.0.0.1:{at.etcd}", f"http://127.0.0.1:{at.peer}"
    options = _options(
        name="n1",
        data_dir=data,
        listen_client_urls=clients,
        advertise_client_urls=clients,
        listen_peer_urls=peers,
        initial_advertise_peer_urls=peers,
        initial_cluster=f"n1={peers}",
    )
    processes.start("etcd", program("etcd"), *options, "--unsafe-no-fsync")


def start_api_server(processes: Processes, at: Addresses, pki: Path) -> None:
    """Start the API server."""
    options = _options(
        etcd_servers=f"http://127.0.0.1:{at.etcd}",
        bind_address="0.0.0.0" if at.everywhere else at.ip,
        advertise_address=at.ip,
        secure_port=at.api,
        tls_cert_file=pki / "apiserver.crt",
        tls_private_key_file=pki / "apiserver.key",
        client_ca_file=pki / "ca.crt",
        kubelet_client_certificate=pki / "apiserver-kubelet-client.crt",
        kubelet_client_key=pki / "apiserver-kubelet-client.key",
        kubelet_preferred_address_types="InternalIP,Hostname",
        service_account_issuer="https://kubernetes.default.svc.cluster.local",
        service_account_key_file=pki / "sa.pub",
        service_account_signing_key_file=pki / "sa.key",
        requestheader_client_ca_file=pki / "front-proxy-ca.crt",
        requestheader_allowed_names="front-proxy-client",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        requestheader_group_headers="X-Remote-Group",
        requestheader_username_headers="X-Remote-User",
        proxy_client_cert_file=pki / "front-proxy-client.crt",
        proxy_client_key_file=pki / "front-proxy-client.key",
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        allow_privileged="true",
        service_cluster_ip_range=SERVICES,
        endpoint_reconciler_type="lease" if at.everywhere else "none",
        profiling="false",
    )
    processes.start("kube-apiserver", program("kube-apiserver"), *options)


def start_controllers(processes: Processes, pki: Path, configs: Path) -> None:
    """Start the controllers and the scheduler; neither serves anything, so neither needs a port."""
    # With a credential for each controller, the usual limits would make their start take 5 s longer.
    common: dict[str, Any] = {"secure_port": 0, "leader_elect": "false", "profiling": "false"}
    common |= {"kube_api_qps": 300, "kube_api_burst": 500}
    manager = common | {
        "kubeconfig": configs / "kube-controller-manager",
        "use_service_account_credentials": "true",
        "controllers": "*",
        "service_account_private_key_file": pki / "sa.key",
        "root_ca_file": pki / "ca.crt",
        "cluster_signing_cert_file": pki / "ca.crt",
        "cluster_signing_key_file": pki / "ca.key",
        "allocate_node_cidrs": "true",
        "cluster_cidr": PODS,
        "service_cluster_ip_range": SERVICES,
        "node_monitor_period": "2s",
        "enable_hostpath_provisioner": "true",
        "horizontal_pod_autoscaler_sync_period": "5s",
    }
    processes.start("kube-controller-manager", program("kube-controller-manager"), *_options(**manager))
    scheduler = common | {"kubeconfig": configs / "kube-scheduler"}
    processes.start("kube-scheduler", program("kube-scheduler"), *_options(**scheduler))


def start_kwok(processes: Processes, at: Addresses, pki: Path, configs: Path, balancer: str) -> None:
    """Start what plays the kubelet for simulated nodes, and a load balancer that answers at ``balancer``."""
    stages = configs.parent / "kwok.yaml"
    if not stages.exists():
        balancers = (HERE / "load_balancers.yaml").read_text().replace("LB_IP", balancer)
        stages.write_text(f"{tools.file('kubernetes', 'kwok-stages.yaml').read_text()}\n{balancers}")
    options = _options(
        kubeconfig=configs / "admin-inside",
        config=stages,
        manage_all_nodes="false",
        manage_nodes_with_annotation_selector="kwok.x-k8s.io/node=fake",
        cidr=SIMULATED_PODS,
        node_ip=at.ip,
        node_port=at.kwok,
        server_address=f"{at.ip}:{at.kwok}",
        node_lease_duration_seconds=40,
        tls_cert_file=pki / "apiserver.crt",
        tls_private_key_file=pki / "apiserver.key",
    )
    processes.start("kwok", program("kwok"), *options)


def is_ready(server: str, pki: Path) -> bool:
    """Return whether the API server says that it is ready."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with direct.open(f"{server}/readyz", timeout=5) as response:
            return bool(response.read() == b"ok")
    except OSError:
        return False


def simulated_nodes(cpu: int, gpu: int) -> list[dict[str, Any]]:
    """Return nodes for kwok, of which ``gpu`` are a T4 pool as GKE makes it: labels, taint, one GPU each."""
    accelerator = {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
        "nvidia.com/gpu.present": "true",
    }
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    plain = [_node(f"cpu-{number}", "cpu-pool", {}, {}, ()) for number in range(1, cpu + 1)]
    count = {"nvidia.com/gpu": "1"}
    return plain + [
        _node(f"gpu-{number}", "gpu-pool", accelerator, count, (taint,)) for number in range(1, gpu + 1)
    ]


def _node(
    name: str, pool: str, labels: dict[str, str], devices: dict[str, str], taints: Iterable[dict[str, str]]
) -> dict[str, Any]:
    common = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "type": "kwok",
        "cloud.google.com/gke-nodepool": pool,
        "topology.kubernetes.io/zone": "europe-west4-a",
    }
    capacity = {"cpu": "4", "memory": "15Gi", "ephemeral-storage": "100Gi", "pods": "110"} | devices
    annotations = {"kwok.x-k8s.io/node": "fake"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": annotations, "labels": common | labels},
        "spec": {"taints": list(taints)},
        "status": {"capacity": capacity, "allocatable": capacity},
    }

"""A real control plane on the loopback; nodes and pods are simulated. No root is needed."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

from testing import tools
from testing.cluster.base import Cluster
from testing.cluster.control_plane import HERE, Addresses
from testing.cluster.errors import ClusterError, PortTakenError
from testing.cluster.processes import Processes
from testing.ports import free_ports

TRIES = 5
# What a Service of type LoadBalancer and an Ingress get: a documentation address, where nothing answers.
BALANCER = "203.0.113.10"
KITS = ("kubernetes",)


class Simulated(Cluster):
    """Nodes that are ready at once, on which every pod is running at once and every job done."""

    def __init__(self, state: Path, cpu_nodes: int = 2, gpu_nodes: int = 0) -> None:
        super().__init__(state, cpu_nodes, gpu_nodes)
        self.processes = Processes(self.state)

    def start(self) -> None:
        """Start it, on other ports where another program takes ours first."""
        for _ in range(TRIES - 1):
            try:
                self._start()
            except PortTakenError:
                self.stop()
            else:
                return
        self._start()

    def _start(self) -> None:
        at = self._addresses()
        self._control_plane(at, at.server, BALANCER)
        self._simulate_nodes()
        self._usable(self.cpu_nodes + self.gpu_nodes)

    def _addresses(self) -> Addresses:
        """Return the running cluster's addresses, else new ones."""
        noted = self.state / "ports.json"
        if not noted.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            noted.write_text(json.dumps(free_ports(4)))
        api, etcd, peer, kwok = json.loads(noted.read_text())
        return Addresses("127.0.0.1", api, etcd, peer, kwok, everywhere=False)

    def start_karpenter(self) -> None:
        """Start what makes a T4 pool grow from 0 to 5 with its pods, and shrink again. It is not GKE's autoscaler."""
        self.apply(tools.file("gpu-nodes", "karpenter-crds"))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s", timeout_s=150)
        self.apply(HERE / "addons/karpenter.yaml")
        if self.processes.is_running("karpenter"):
            return
        metrics, health = free_ports(2)
        ports = ("-metrics-port", str(metrics), "-health-probe-port", str(health))
        types = ("-instance-types-file-path", HERE / "instance_types.json")
        program = tools.file("gpu-nodes", "karpenter-kwok")
        variables = {"KUBECONFIG": str(self.kubeconfig), "SYSTEM_NAMESPACE": "kube-system"}
        self.processes.start(
            "karpenter", program, "-disable-leader-election", *ports, *types, variables=variables
        )

    def stop(self) -> None:
        """End its processes and remove its state; the folders that its volumes made go as well."""
        volumes = self._volumes()
        self.processes.kill(self.processes.names())
        for folder in volumes:
            with suppress(OSError):
                folder.rmdir()
        shutil.rmtree(self.state, ignore_errors=True)

    def _volumes(self) -> list[Path]:
        if not self.processes.is_running("kube-apiserver"):
            return []
        try:
            volumes = self.get("persistentvolumes", "--request-timeout=5s")
        except ClusterError:
            return []
        paths = [volume["spec"].get("hostPath", {}).get("path", "") for volume in volumes]
        return [Path(path) for path in paths if path.startswith("/tmp/hostpath_pv/")]

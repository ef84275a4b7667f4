"""A real node on this machine: containers run, Services are routed, names resolve. Root is needed."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from testing.cluster import images
from testing.cluster import node_programs as node
from testing.cluster.base import Cluster
from testing.cluster.control_plane import Addresses, program
from testing.cluster.errors import ClusterError
from testing.cluster.namespaces import (
    HERE,
    Cgroups,
    enter,
    joining,
    load_kernel_modules,
    node_process,
    require_root,
    unsharing,
)
from testing.cluster.processes import Processes

KITS = ("kubernetes", "gpu-nodes", "container-runtime")
PROGRAMS = ("iptables", "nft", "ip", "nsenter", "unshare", "gcc", "mmdebstrap", "openssl")
# Inside the node's own network namespace.
ADDRESSES = Addresses(node.ADDRESS, 6443, 2379, 2380, 6446, everywhere=True)
ADDONS = ("storage", "coredns", "metrics-server", "fakegpu")


class Real(Cluster):
    """One node, ``node-1``, in namespaces of its own. ``gpu_nodes`` simulated ones may stand beside it."""

    def __init__(self, state: Path, cpu_nodes: int = 0, gpu_nodes: int = 0) -> None:
        super().__init__(state, cpu_nodes, gpu_nodes)
        self._cgroups = Cgroups(self.state)
        self.processes = Processes(self.state, self._inside)

    def start(self) -> None:
        """Start the node, the control plane on it and what a cluster is used with: DNS, metrics, volumes."""
        require_root()
        archives = images.prepare()
        self._start_node()
        self._start_containerd()
        outside = f"https://127.0.0.1:{self.forward(ADDRESSES.api)}"
        self._control_plane(ADDRESSES, outside, node.ADDRESS)
        self._start_kubelet()
        for archive in archives:
            self.import_image(archive)
        self._simulate_nodes()
        self._usable(1 + self.cpu_nodes + self.gpu_nodes)
        self.apply(*(HERE / f"addons/{name}.yaml" for name in ADDONS))
        ready = ("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=1s")
        self.wait_for("CoreDNS", lambda: self.kubectl(*ready), ("kube-apiserver", "kubelet"))

    def _start_node(self) -> None:
        if self.processes.is_running("node"):
            return
        load_kernel_modules()
        (self.state / "fs").mkdir(parents=True, exist_ok=True)
        ready = self.state / "node.ready"
        ready.unlink(missing_ok=True)
        (self.state / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        self._cgroups.make()
        command = unsharing(self.state, self._cgroups, f"{node.ADDRESS}/24")
        self.processes.start("node", *command, here=True)
        self.processes.wait_for("the node's namespaces", ready.exists, ("node",))
        self._cgroups.hand_on(self.processes.pid("node") or 0)

    def _process(self) -> int:
        """Return the id, out here, of the node's first process.

        Raises:
            ClusterError: Where the node does not run.

        """
        starter = self.processes.pid("node")
        process = starter and node_process(starter)
        if not process:
            raise ClusterError(f"no node runs in {self.state}")
        return process

    def _inside(self, command: list[str]) -> list[str]:
        return joining(self._cgroups.members, enter(self._process()) + command)

    def run(self, *command: str | Path, timeout_s: float = 300) -> str:
        """Run a command in the node and return its output.

        Raises:
            ClusterError: Where it fails; the message has what it says.

        """
        argv = self._inside([str(part) for part in command])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def forward(self, port: int) -> int:
        """Return the port of this machine's loopback that leads to a port of the node (NodePort, LoadBalancer)."""
        name, noted = f"forward-{port}", self.state / f"forward-{port}"
        if not self.processes.is_running(name):
            noted.unlink(missing_ok=True)
            arguments = (str(self._process()), node.ADDRESS, str(port), noted)
            self.processes.start(name, sys.executable, HERE / "forward.py", *arguments, here=True)
            self.processes.wait_for(f"the way to port {port}", noted.exists, (name,))
        return int(noted.read_text())

    def _start_containerd(self) -> None:
        folder = self.state / "fs/etc"
        node.write_changed(folder / "containerd/config.toml", node.containerd_settings())
        node.write_changed(folder / f"containerd/certs.d/{node.REGISTRY}/hosts.toml", node.mirror_settings())
        node.write_changed(folder / "cni/net.d/10-test.conflist", node.network_settings())
        path = {"PATH": node.runtime_path()}
        command = (node.runtime("usr/bin/containerd"), "--config", "/etc/containerd/config.toml")
        self.processes.start("containerd", *command, variables=path)

        def answers() -> bool:
            with suppress(ClusterError):
                self.ctr("version")
                return True
            return False

        self.processes.wait_for("containerd", answers, ("node", "containerd"))

    def ctr(self, *arguments: str | Path) -> str:
        """Run containerd's client in the node and return its output."""
        return self.run(*self._ctr, *arguments)

    @property
    def _ctr(self) -> tuple[str | Path, ...]:
        return (node.runtime("usr/bin/ctr"), "-a", node.SOCKET, "-n", "k8s.io")

    def import_image(self, archive: Path) -> None:
        """Put an image on the node."""
        self.run(*self._ctr, "images", "import", archive, timeout_s=1800)

    def _start_kubelet(self) -> None:
        path = {"PATH": node.runtime_path()}
        kubelet = node.write_changed(self.state / "kubelet.yaml", node.kubelet_settings(self.pki, self.state))
        labels = "cloud.google.com/gke-nodepool=real-pool,topology.kubernetes.io/zone=europe-west4-a"
        where = (f"--hostname-override={node.NAME}", f"--node-ip={node.ADDRESS}", f"--node-labels={labels}")
        files = (f"--config={kubelet}", f"--kubeconfig={self.configs / 'kubelet'}")
        self.processes.start("kubelet", program("kubelet"), *files, *where, variables=path)
        proxy = node.write_changed(
            self.state / "kube-proxy.yaml", node.proxy_settings(self.configs / "kube-proxy")
        )
        self.processes.start("kube-proxy", program("kube-proxy"), f"--config={proxy}", variables=path)

    def start_registry(self) -> int:
        """Start a registry with one account, which pods know as REGISTRY; return its port on this machine."""
        settings = node.write_changed(
            self.state / "registry/config.yml", node.registry_settings(self.state / "registry")
        )
        self.processes.start("registry", node.runtime("usr/bin/docker-registry"), "serve", settings)

        def listens() -> bool:
            with suppress(ClusterError):
                self.run("bash", "-c", f"exec 3<>/dev/tcp/{node.ADDRESS}/5000")
                return True
            return False

        self.processes.wait_for("the registry", listens, ("registry",))
        return self.forward(5000)

    def enforce_policies(self) -> None:
        """Enforce NetworkPolicies from now on."""
        arguments = (program("kubectl"), self.configs / "admin-inside")
        self.processes.start("policies", sys.executable, "-u", HERE / "policies.py", *arguments)

    def stop(self) -> None:
        """End everything, and leave neither process, cgroup nor file."""
        # The node's namespace of processes, and all in it, ends with the process that holds it.
        self.processes.kill(("node",))
        self.processes.kill(self.processes.names())
        self._cgroups.remove()
        shutil.rmtree(self.state, ignore_errors=True)

"""What every cluster can do, whatever its nodes are."""

import json
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testing.cluster import certificates
from testing.cluster.control_plane import (
    API_SERVICE,
    Addresses,
    is_ready,
    program,
    simulated_nodes,
    start_api_server,
    start_controllers,
    start_etcd,
    start_kwok,
)
from testing.cluster.errors import ClusterError, PortTakenError
from testing.cluster.processes import Processes

STORAGE_CLASS = Path(__file__).resolve().parent / "addons/storage.yaml"


class Cluster(ABC):
    """A cluster whose whole state is in ``state``. As a context, it runs from beginning to end."""

    processes: Processes
    _restart: Callable[[], None]

    def __init__(self, state: Path, cpu_nodes: int, gpu_nodes: int) -> None:
        self.state = state.resolve()
        self.cpu_nodes, self.gpu_nodes = cpu_nodes, gpu_nodes

    @property
    def pki(self) -> Path:
        """Return the folder of its certificates."""
        return self.state / "pki"

    @property
    def configs(self) -> Path:
        """Return the folder of its kubeconfigs."""
        return self.state / "kubeconfig"

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig, for this machine."""
        return self.configs / "admin"

    @abstractmethod
    def start(self) -> None:
        """Start what does not run yet, and return when it can be used.

        Raises:
            ClusterError: Where that fails; the message has the failed part's log.

        """

    @abstractmethod
    def stop(self) -> None:
        """End it and remove its state."""

    def __enter__(self) -> Self:
        """Start it; it ends with this process at the latest. Where that fails, nothing of it stays."""
        self.processes.tied = True
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()

    def kubectl(self, *arguments: str | Path, given: object = None, timeout_s: float = 180) -> str:
        """Run kubectl as administrator, with ``given`` as its input (text, or an object as JSON); return its output.

        Raises:
            ClusterError: Where it fails; the message has what it says.

        """
        text = given if given is None or isinstance(given, str) else json.dumps(given)
        command = [program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        # Else what it remembers of the API goes into the user's home.
        environment = os.environ | {"KUBECACHEDIR": str(self.state / "kubectl")}
        done = subprocess.run(
            command,
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that ``kubectl get`` lists."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]
        return items

    def apply(self, *files: Path) -> None:
        """Apply manifests on the server's side: some definitions are too big for kubectl's own way."""
        options = [option for file in files for option in ("-f", file)]
        self.kubectl("apply", "--server-side", "--force-conflicts", *options)

    def wait_for(
        self,
        what: str,
        reached: Callable[[], object],
        needs: Iterable[str] = ("kube-apiserver",),
        within_s: float = 300,
    ) -> None:
        """Return once ``reached`` is true; an error of kubectl counts as false.

        Raises:
            ClusterError: After ``within_s`` seconds, or where one of the processes in ``needs`` has ended.

        """

        def answered() -> object:
            try:
                return reached()
            except PortTakenError:
                raise
            except (ClusterError, subprocess.TimeoutExpired):
                return False

        self.processes.wait_for(what, answered, needs, within_s)

    def _control_plane(self, at: Addresses, outside: str, balancer: str) -> None:
        """Start the control plane; ``outside`` is the API server's address on this machine."""
        certificates.make(self.pki, at.ip, API_SERVICE)
        certificates.kubeconfig(self.pki, "admin", outside, self.kubeconfig)
        certificates.kubeconfig(self.pki, "admin", at.server, self.configs / "admin-inside")
        for name in certificates.COMPONENTS:
            certificates.kubeconfig(self.pki, name, at.server, self.configs / name)
        start_etcd(self.processes, at, self.state)
        start_api_server(self.processes, at, self.pki)
        needs = ("etcd", "kube-apiserver")
        self.processes.wait_for("the API server", lambda: is_ready(outside, self.pki), needs)
        self._restart = partial(self._start_controllers, at, balancer)
        self._restart()

    def _start_controllers(self, at: Addresses, balancer: str) -> None:
        """Start the controllers where they don't run: on a very busy machine, they give up and end at times."""
        self.processes.require_port("kwok")
        start_controllers(self.processes, self.pki, self.configs)
        start_kwok(self.processes, at, self.pki, self.configs, balancer)

    def _simulate_nodes(self) -> None:
        nodes = simulated_nodes(self.cpu_nodes, self.gpu_nodes)
        if nodes:
            given = {"apiVersion": "v1", "kind": "List", "items": nodes}
            self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=given)

    def _usable(self, nodes: int) -> None:
        """Wait until ``nodes`` nodes are ready and a pod can be made."""
        needs = ("etcd", "kube-apiserver")
        self.wait_for(f"{nodes} ready nodes", lambda: self._ready_nodes() >= nodes, needs)
        self.wait_for("the default ServiceAccount", self._account, needs)

    def _account(self) -> str:
        self._restart()
        return self.kubectl("get", "serviceaccount", "default")

    def _ready_nodes(self) -> int:
        self._restart()
        conditions = [node["status"].get("conditions", []) for node in self.get("nodes")]
        return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in found) for found in conditions)

"""A real node: kubelet, containerd, CNI, kube-proxy, DNS, metrics, a private registry, enforced policies."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from testing.cluster.control_plane import program
from testing.cluster.images import PYTHON_IMAGE
from testing.cluster.policies import TABLE
from testing.cluster.real import Real

T = TypeVar("T")
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_LOW_PORTS = {
    "runAsNonRoot": False,
    "runAsUser": 0,
    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
}


def until(what: str, ask: Callable[[], T], patience_s: float = 180) -> T:
    """Return the first true answer. A cluster's state is reached in its own time."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.3)
    return answer


@dataclass
class Node:
    """The cluster of one real node, whose registry answers on the loopback's ``registry_port``."""

    cluster: Real
    registry_port: int

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def kubectl(self, *arguments: str, given: object = None, timeout_s: float = 300) -> str:
        return self.cluster.kubectl(*arguments, given=given, timeout_s=timeout_s)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        return self.cluster.get(*arguments)

    def namespace(self, name: str) -> None:
        labels = {"kubernetes.io/metadata.name": name}
        self.kubectl("apply", "-f", "-", given=_object("Namespace", {"name": name, "labels": labels}))

    def one_gpu(self) -> None:
        """Let the node's device plugin offer one GPU, on which nothing can compute."""
        place = "/spec/template/spec/containers/0/command/2"
        patch = json.dumps([{"op": "replace", "path": place, "value": "1"}])
        self.kubectl("-n", "kube-system", "patch", "daemonset", "fakegpu", "--type=json", "-p", patch)
        self.kubectl(
            "label", "node", "node-1", "cloud.google.com/gke-accelerator=nvidia-tesla-t4", "--overwrite"
        )

        def offered() -> bool:
            (node,) = self.get("nodes")
            return node["status"]["allocatable"].get("nvidia.com/gpu") == "1"

        until("the GPU", offered)

    def python(
        self, namespace: str, name: str, source: str = "", *arguments: str, low_ports: bool = False
    ) -> None:
        """Run a Python program, or one that waits to be asked, in a pod that belongs to nobody.

        ``low_ports`` runs it as the pod's root with the one right to listen below 1024, which other users of a node
        have only where its kernel settings say so.
        """
        program = source or "import time; time.sleep(100000)"
        container = {
            "name": "python",
            "image": PYTHON_IMAGE,
            "command": ["python3", "-u", "-c", program, *arguments],
            "securityContext": _RESTRICTED | (_LOW_PORTS if low_ports else {}),
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "128Mi"}},
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
        labels = {"app": name}
        pod = _object("Pod", {"name": name, "namespace": namespace, "labels": labels}, spec=spec)
        self.kubectl("apply", "-f", "-", given=pod)
        self.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=280s")

    def service(self, namespace: str, name: str, port: int) -> None:
        """Give the pod of that name a Service of the same name."""
        spec = {"selector": {"app": name}, "ports": [{"port": port}]}
        given = _object("Service", {"name": name, "namespace": namespace}, spec=spec)
        self.kubectl("apply", "-f", "-", given=given)

    def put(self, namespace: str, pod: str, file: Path, path: str) -> None:
        """Copy a file into a pod, where it appears whole."""
        receive = "import os, sys; d = sys.stdin.buffer.read(); f = open(sys.argv[1] + '.part', 'wb')"
        receive += "; f.write(d); f.close(); os.rename(f.name, sys.argv[1])"
        command = [*self._exec(namespace, "-i", pod), "python3", "-c", receive, path]
        subprocess.run(command, input=file.read_bytes(), check=True, timeout=300)

    def _exec(self, namespace: str, *options: str) -> list[str | Path]:
        return [program("kubectl"), "--kubeconfig", self.kubeconfig, "-n", namespace, "exec", *options, "--"]

    def reaches(self, namespace: str, pod: str, host: str, port: int, within_s: int) -> bool:
        """Return whether a connection from that pod comes about in time."""
        ask = f"import socket; socket.create_connection(({host!r}, {port}), {within_s})"
        command = [*self._exec(namespace, pod), "python3", "-c", ask]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        known = ("TimeoutError", "ConnectionRefusedError", "timed out")
        assert done.returncode == 0 or any(word in done.stderr for word in known), done.stderr
        return done.returncode == 0

    def enforces(self, namespace: str, pod: str) -> bool:
        """Return whether policies are enforced on that pod already, which takes a moment from its start."""
        address = self.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
        return f" {address} jump " in self.cluster.run("nft", "list", "table", "inet", TABLE)


def _object(kind: str, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | more

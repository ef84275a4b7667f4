"""A real node: kubelet, containerd, CNI, kube-proxy, DNS, metrics, a private registry, enforced policies."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from testing.cluster.engine import kube

T = TypeVar("T")
REGISTRY = "registry.test:5000"
# The test registry's only account; cluster/node.sh makes it.
USER, PASSWORD = "puller", "s3cret"
# It holds a Python and is on the node already.
PYTHON_IMAGE = "local.test/py:1"
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
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
    """One cluster of ``cluster/kube up 2`` in ``state``."""

    program: Path
    state: Path
    registry_port: int
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = os.environ | self.environment | {"KUBE_STATE": str(self.state)}

    @property
    def kubeconfig(self) -> Path:
        return self.state / "l2/kubeconfig/admin"

    def kube(self, *arguments: str, timeout_s: float = 120) -> None:
        kube(self.program, *arguments, environment=self.environment, timeout_s=timeout_s)

    def kubectl(self, *arguments: str, given: object = None, timeout_s: float = 120) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]

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

    def python(self, namespace: str, name: str, source: str = "", *arguments: str) -> None:
        """Run a Python program, or one that waits to be asked, in a pod that belongs to nobody."""
        program = source or "import time; time.sleep(100000)"
        container = {
            "name": "python",
            "image": PYTHON_IMAGE,
            "command": ["python3", "-u", "-c", program, *arguments],
            "securityContext": _RESTRICTED,
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "128Mi"}},
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
        labels = {"app": name}
        pod = _object("Pod", {"name": name, "namespace": namespace, "labels": labels}, spec=spec)
        self.kubectl("apply", "-f", "-", given=pod)
        self.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")

    def service(self, namespace: str, name: str, port: int) -> None:
        """Give the pod of that name a Service of the same name."""
        spec = {"selector": {"app": name}, "ports": [{"port": port}]}
        given = _object("Service", {"name": name, "namespace": namespace}, spec=spec)
        self.kubectl("apply", "-f", "-", given=given)

    def put(self, namespace: str, pod: str, file: Path, path: str) -> None:
        """Copy a file into a pod, where it appears whole."""
        receive = "import os, sys; d = sys.stdin.buffer.read(); f = open(sys.argv[1] + '.part', 'wb')"
        receive += "; f.write(d); f.close(); os.rename(f.name, sys.argv[1])"
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", namespace, "exec", "-i", pod, "--"]
        subprocess.run(
            [*command, "python3", "-c", receive, path], input=file.read_bytes(), check=True, timeout=60
        )

    def reaches(self, namespace: str, pod: str, host: str, port: int) -> bool:
        """Return whether a connection from that pod comes about within 3 s."""
        ask = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", namespace, "exec", pod, "--"]
        done = subprocess.run(
            [*command, "python3", "-c", ask], capture_output=True, text=True, timeout=60, check=False
        )
        known = ("TimeoutError", "ConnectionRefusedError", "timed out")
        assert done.returncode == 0 or any(word in done.stderr for word in known), done.stderr
        return done.returncode == 0


def _object(kind: str, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | more

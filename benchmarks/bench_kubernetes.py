"""`pulumi up` of the workloads against `kubectl apply` of the rendered YAML, both until everything is ready.

The API server, its controllers and the scheduler are real; nodes and pods are simulated and ready at once,
so what differs is what the tools themselves take. Needs the test cluster (ASSIST_SHARED), pulumi, kubectl.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import render
from stackfile import load_stack
from stackfile.catalogue import ROOT
from testing.cluster.engine import Workspace, kube
from tests.integration.k8s.conftest import GPU_NODES, SHARED, free_ports, missing

ROUNDS = 3
STACK = "kube-local"
NAMESPACE = "ai-assist"
READY = ("wait", "--for=condition=Available", "deployments", "--all", "--timeout=120s")


@contextmanager
def cluster(state: Path) -> Iterator[Path]:
    """Run the control plane with simulated nodes; yield its kubeconfig."""
    ports = dict(zip(("KUBE_API_PORT", "KUBE_ETCD_PORT", "KUBE_PEER_PORT"), free_ports(), strict=True))
    environment = os.environ | ports | {"KUBE_STATE": str(state), "GPU_NODES": str(GPU_NODES)}
    program = SHARED / "cluster/kube"
    try:
        kube(program, "up", "1", environment=environment, timeout_s=300)
        yield state / "l1/kubeconfig/admin"
    finally:
        kube(program, "down", "1", environment=environment, timeout_s=120)


def with_pulumi(workspace: Workspace) -> float:
    """Return the seconds of `pulumi up`, which ends when everything is ready; then take it down."""
    begun = time.monotonic()
    done = workspace.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK).returncode == 0
    assert workspace.left() == []
    return took


def with_kubectl(workspace: Workspace, manifests: Path) -> float:
    """Return the seconds of `kubectl apply` and of waiting until everything is ready; then take it down."""
    begun = time.monotonic()
    workspace.kubectl("apply", "-f", str(manifests / f"0-namespace-{NAMESPACE}.yaml"))
    keys = ("create", "secret", "generic", "gateway-keys", "--from-literal=keys.json={}")
    workspace.kubectl("-n", NAMESPACE, *keys)
    workspace.kubectl("apply", "-k", str(manifests))
    workspace.kubectl("-n", NAMESPACE, *READY)
    workspace.kubectl("-n", NAMESPACE, "wait", "--for=condition=Complete", "jobs", "--all", "--timeout=120s")
    took = time.monotonic() - begun
    workspace.kubectl("delete", "-k", str(manifests), "--wait=false")
    assert workspace.left() == []
    return took


def main() -> int:
    """Print both and their ratio, or what is missing to run them."""
    if reason := missing():
        print(f"not run: {reason}")
        return 0
    rounds: dict[str, list[float]] = {"kubectl apply": [], "pulumi up": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as work, cluster(Path(work) / "cluster") as kubeconfig:
        manifests = Path(work) / "manifests"
        render.render(load_stack(ROOT / f"stacks/{STACK}.yaml"), manifests)
        workspace = Workspace(Path(work) / "project", kubeconfig)
        workspace.stack(STACK)
        workspace.kubectl("apply", "-f", str(SHARED / "cluster/addons/storage.yaml"))
        # By turns, so that what else the machine does falls on both.
        for _ in range(ROUNDS):
            rounds["kubectl apply"].append(with_kubectl(workspace, manifests))
            rounds["pulumi up"].append(with_pulumi(workspace))
    for name, seconds in rounds.items():
        print(f"{name:<14} median {statistics.median(seconds):5.1f} s of {[round(s, 1) for s in seconds]}")
    ratio = statistics.median(rounds["pulumi up"]) / statistics.median(rounds["kubectl apply"])
    print(f"pulumi up takes {ratio:.1f} times what kubectl apply takes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(str(error))

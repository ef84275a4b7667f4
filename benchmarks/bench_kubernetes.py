"""`pulumi up` of the workloads against `kubectl apply` of the rendered YAML, both until everything is ready.

The API server, its controllers and the scheduler are real; nodes and pods are simulated and ready at once,
so the difference is the tools' own time. Needs the programs of `make test-tools`.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra import render
from stackfile import load_stack
from stackfile.catalogue import ROOT
from testing.cluster.base import STORAGE_CLASS
from testing.cluster.engine import Workspace, missing
from testing.cluster.errors import ClusterError
from testing.cluster.simulated import Simulated

GPU_NODES = 2
ROUNDS = 3
STACK = "kube-local"
NAMESPACE = "ai-assist"
READY = ("wait", "--for=condition=Available", "deployments", "--all", "--timeout=120s")


def with_pulumi(workspace: Workspace) -> float:
    """Return the seconds of `pulumi up`, which ends when everything is ready; then destroy the stack."""
    begun = time.monotonic()
    done = workspace.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK).returncode == 0
    assert workspace.left() == []
    return took


def with_kubectl(workspace: Workspace, manifests: Path) -> float:
    """Return the seconds of `kubectl apply` until everything is ready; then delete the objects."""
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
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as work,
        Simulated(Path(work) / "cluster", gpu_nodes=GPU_NODES) as cluster,
    ):
        manifests = Path(work) / "manifests"
        render.render(load_stack(ROOT / f"stacks/{STACK}.yaml"), manifests)
        workspace = Workspace(Path(work) / "project", cluster.kubeconfig)
        workspace.stack(STACK)
        cluster.apply(STORAGE_CLASS)
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
    except (ClusterError, subprocess.SubprocessError) as error:
        sys.exit(str(error))

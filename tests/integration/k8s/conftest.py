"""A real API server for the tests marked ``kube``: nodes and pods are simulated, all decisions are real."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing.cluster.engine import LABEL, Workspace, kube

SHARED = Path(os.environ.get("ASSIST_SHARED", ROOT.parent / "shared"))
GPU_NODES = 2


def missing() -> str | None:
    if not (SHARED / "cluster/kube").is_file():
        return f"no test cluster under {SHARED}; set ASSIST_SHARED to the folder that has cluster/kube"
    tools = ("pulumi", "pulumi-resource-kubernetes", "pulumi-language-python", "kubectl")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    return f"not on PATH: {', '.join(absent)}; install Pulumi and kubectl" if absent else None


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a cluster with a T4 pool on free ports of the loopback, and take it down at the end."""
    if reason := missing():
        pytest.skip(reason)
    state = tmp_path_factory.mktemp("kube")
    ports = dict(zip(("KUBE_API_PORT", "KUBE_ETCD_PORT", "KUBE_PEER_PORT"), free_ports(), strict=True))
    environment = os.environ | ports | {"KUBE_STATE": str(state), "GPU_NODES": str(GPU_NODES)}
    program = SHARED / "cluster/kube"
    try:
        kube(program, "up", "1", environment=environment, timeout_s=180)
        config = state / "l1/kubeconfig/admin"
        classes = [
            "kubectl",
            "--kubeconfig",
            str(config),
            "apply",
            "-f",
            str(SHARED / "cluster/addons/storage.yaml"),
        ]
        subprocess.run(classes, check=True, timeout=60)
        yield config
    finally:
        kube(program, "down", "1", environment=environment, timeout_s=120)


def free_ports() -> list[str]:
    """Return an API port with five free ones behind it, which the cluster takes too, and two more."""
    held = []
    for first in range(20000 + os.getpid() % 10000, 60000, 10):
        try:
            for port in range(first, first + 8):
                probe = socket.socket()
                held.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            while held:
                held.pop().close()
        return [str(first), str(first + 6), str(first + 7)]
    pytest.skip("no eight free ports in a row on the loopback")


@pytest.fixture
def workspace(tmp_path: Path, kubeconfig: Path) -> Iterator[Workspace]:
    """Return a fresh copy of the project on that cluster; what a failed test leaves there is removed."""
    made = Workspace(tmp_path, kubeconfig)
    yield made
    made.kubectl("delete", "namespace", "ai-assist", "--ignore-not-found", "--wait=false")
    made.kubectl("delete", "priorityclasses,persistentvolumes", "-l", LABEL, "--wait=false")
    # The next test of this cluster counts what it finds.
    assert made.left() == []

"""A real API server for the tests marked ``kube``: nodes and pods are simulated, all decisions are real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.cluster.base import STORAGE_CLASS
from testing.cluster.engine import LABEL, Workspace, missing
from testing.cluster.simulated import Simulated

GPU_NODES = 2


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """Start a cluster with a T4 pool on the loopback, and take it down at the end."""
    if reason := missing():
        pytest.skip(reason)
    with Simulated(tmp_path_factory.mktemp("kube"), gpu_nodes=GPU_NODES) as running:
        running.apply(STORAGE_CLASS)
        yield running


@pytest.fixture(scope="session")
def kubeconfig(cluster: Simulated) -> Path:
    """Return the administrator's kubeconfig."""
    return cluster.kubeconfig


@pytest.fixture
def workspace(tmp_path: Path, kubeconfig: Path) -> Iterator[Workspace]:
    """Return a fresh copy of the project on that cluster; what a failed test leaves there is removed."""
    made = Workspace(tmp_path, kubeconfig)
    yield made
    made.kubectl("delete", "namespace", "ai-assist", "--ignore-not-found", "--wait=false")
    made.kubectl("delete", "priorityclasses,persistentvolumes", "-l", LABEL, "--wait=false")
    # The next test of this cluster counts what it finds.
    assert made.left() == []

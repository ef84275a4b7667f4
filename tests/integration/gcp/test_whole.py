"""`pulumi preview --stack gke-dev`, all of it: Google by its double, the workloads on a real API server.

The cluster that the double "makes" has no API server, so the workloads go where ``kubeconfig`` in Pulumi's
configuration points, as they do for a private cluster that is reached through a gateway. `pulumi up` of it is
in ``tests/integration/node``.
"""

import pytest

from testing.cluster.engine import Workspace
from testing.gcp.double import Google
from testing.gcp.whole import STACK, on_google
from tests.integration.k8s.conftest import cluster, kubeconfig, workspace

__all__ = ["cluster", "kubeconfig", "workspace"]
pytestmark = [pytest.mark.gcp, pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def gke(workspace: Workspace, google: Google) -> Workspace:
    """Return the repository's own ``gke-dev`` on that API server; only project and kubeconfig are added."""
    workspace.stack(STACK)
    on_google(workspace, google)
    return workspace


def done(result) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_a_preview_of_the_whole_is_a_plan_of_everything(gke: Workspace):
    seen = done(gke.pulumi("preview", "--stack", STACK))
    assert "gcp:container:Cluster" in seen
    assert "kubernetes:apps/v1:Deployment" in seen

"""One real node for this folder's tests, our real images in its registry, and the service on it."""

import shutil
from collections.abc import Iterator

import pytest

from tests.integration.k8s.conftest import SHARED, free_ports
from tests.integration.k8s.conftest import missing as no_cluster
from tests.integration.node import images
from tests.integration.node.cluster import PASSWORD, REGISTRY, USER, Node
from tests.integration.node.service import Deployed

# Our Triton for a node whose GPU is only a number.
GPULESS = "triton-without-gpu"


def _missing() -> str | None:
    # The node's pause image is compiled on the spot.
    compiler = None if shutil.which("gcc") else "not on PATH: gcc; apt-get install gcc libc6-dev"
    return no_cluster() or images.missing() or compiler


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start a node with a registry, policies enforced, and take it down at the end."""
    if reason := _missing():
        pytest.skip(reason)
    api, registry, _ = free_ports()
    ports = {"KUBE_API_PORT": api, "KUBE_REGISTRY_PORT": registry}
    made = Node(SHARED / "cluster/kube", tmp_path_factory.mktemp("node"), int(registry), ports)
    try:
        # The first time, Debian's containerd and the images of the cluster itself are fetched.
        made.kube("up", "2", timeout_s=900)
        made.kube("netpol")
        made.kube("registry")
        for name in ("editors", "monitoring"):
            made.namespace(name)
        yield made
    finally:
        made.kube("down", "2")


@pytest.fixture(scope="session")
def references(node: Node) -> dict[str, str]:
    """Build our images, push them, and return by which digest each is pulled."""
    with images.store() as store:
        store.build(*images.PARTS)
        store.without_gpu(f"{images.REGISTRY}/triton:0.1.0", f"{images.REGISTRY}/{GPULESS}:0.1.0")
        address = f"127.0.0.1:{node.registry_port}/ai-assist"
        names = ["gateway", "loader", "triton", GPULESS]
        tags = {name: (f"{images.REGISTRY}/{name}:0.1.0", f"{address}/{name}:0.1.0") for name in names}
        digests = {name: store.push(*tag, f"{USER}:{PASSWORD}") for name, tag in tags.items()}
    return {name: f"{REGISTRY}/ai-assist/{name}@{digest}" for name, digest in digests.items()}


@pytest.fixture(scope="session")
def deployed(
    node: Node, references: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Run ``pulumi up --stack kube-local`` to its end, with the repository's own stack file."""
    ours = {name: reference for name, reference in references.items() if name != GPULESS}
    service = Deployed(node, ours, tmp_path_factory.mktemp("deployed"))
    service.up()
    yield service
    service.close()

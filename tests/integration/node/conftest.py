"""One real node for this folder's tests, our real images in its registry, and the service on it."""

from collections.abc import Iterator

import pytest

from stackfile.version import VERSION
from testing import tools
from testing.cluster.engine import missing as no_engine
from testing.cluster.node_programs import PASSWORD, REGISTRY, USER
from testing.cluster.real import KITS, PROGRAMS, Real
from tests.integration.node import images
from tests.integration.node.cluster import Node
from tests.integration.node.service import Deployed

# Our Triton for a node whose GPU is only a number.
GPULESS = "triton-without-gpu"


def _missing() -> str | None:
    return no_engine() or tools.missing(*KITS, *PROGRAMS) or images.missing()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start a node with a registry, policies enforced, and take it down at the end."""
    if reason := _missing():
        pytest.skip(reason)
    with Real(tmp_path_factory.mktemp("node")) as cluster:
        cluster.enforce_policies()
        made = Node(cluster, cluster.start_registry())
        for name in ("editors", "monitoring"):
            made.namespace(name)
        yield made


@pytest.fixture(scope="session")
def references(node: Node) -> dict[str, str]:
    """Build our images, push them, and return by which digest each is pulled."""
    with images.store() as store:
        store.build(*images.PARTS)
        store.without_gpu(f"{images.REGISTRY}/triton:{VERSION}", f"{images.REGISTRY}/{GPULESS}:{VERSION}")
        address = f"127.0.0.1:{node.registry_port}/ai-assist"
        names = ["gateway", "loader", "triton", GPULESS]
        tags = {
            name: (f"{images.REGISTRY}/{name}:{VERSION}", f"{address}/{name}:{VERSION}") for name in names
        }
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

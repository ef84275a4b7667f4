"""KEDA on the real node: a Deployment follows a queue from nothing to three pods and back."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing import tools
from testing.cluster import keda, real
from testing.cluster.images import PYTHON_IMAGE
from testing.cluster.node_programs import ADDRESS
from testing.cluster.real import Real

pytestmark = [pytest.mark.kube, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]

NAMESPACE, PORT = "keda-test", 18099
# Answers with the number in a file, on the node's own address.
SERVER = """
import http.server, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"queue": ' + pathlib.Path(sys.argv[1]).read_bytes() + b"}")
http.server.HTTPServer((sys.argv[2], int(sys.argv[3])), Handler).serve_forever()
"""


@dataclass
class Scaled:
    """A Deployment that KEDA scales, and the queue that it scales by: one pod for five entries."""

    cluster: Real
    queue: Path

    def put(self, entries: int) -> None:
        part = self.queue.with_name("part")
        part.write_text(str(entries))
        part.rename(self.queue)

    def ready(self) -> int:
        (deployment,) = self.cluster.get("-n", NAMESPACE, "deployments")
        return int(deployment["status"].get("readyReplicas", 0))

    def pods(self) -> int:
        return len(self.cluster.get("-n", NAMESPACE, "pods"))


def _objects() -> list[dict[str, object]]:
    container = {
        "name": "work",
        "image": PYTHON_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
    }
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    labels = {"app": "work"}
    deployment = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    source = {"url": f"http://{ADDRESS}:{PORT}/", "valueLocation": "queue", "targetValue": "5"}
    scaling = {
        "scaleTargetRef": {"name": "work"},
        "pollingInterval": 1,
        "cooldownPeriod": 5,
        "maxReplicaCount": 5,
        "triggers": [{"type": "metrics-api", "metadata": source}],
    }
    named = {"name": "work", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named, "spec": deployment},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": named, "spec": scaling},
    ]


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    if reason := tools.missing(*real.KITS, *real.PROGRAMS, *keda.KITS):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("keda")
    with Real(folder / "cluster") as cluster:
        keda.install(cluster)
        made = Scaled(cluster, folder / "queue")
        made.put(0)
        server = (sys.executable, "-c", SERVER, made.queue, ADDRESS, str(PORT))
        cluster.processes.start("queue", *server)
        given = {"apiVersion": "v1", "kind": "List", "items": _objects()}
        cluster.kubectl("apply", "-f", "-", given=given)
        ready = ("scaledobject", NAMESPACE, "work")
        cluster.wait_for("KEDA's look at it", lambda: keda.conditions(cluster, *ready).get("Ready") == "True")
        yield made


def test_a_deployment_follows_its_queue_from_nothing_to_three_pods_and_back(scaled: Scaled):
    wait_for = scaled.cluster.wait_for
    assert scaled.pods() == 0
    scaled.put(4)
    wait_for("the first pod", lambda: scaled.ready() == 1)
    scaled.put(15)
    wait_for("three pods", lambda: scaled.ready() == 3)
    scaled.put(0)
    wait_for("the last pod's end", lambda: scaled.pods() == 0)

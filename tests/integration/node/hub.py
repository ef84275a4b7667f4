"""A model hub in the cluster whose first answer stops half way, and a loader's image that knows it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from model_loader.inspection import gguf_header
from stackfile.catalogue import ROOT
from stackfile.version import VERSION
from testing import gguf_files
from testing.cluster.node_programs import PASSWORD, REGISTRY, USER
from tests.integration.node import images
from tests.integration.node.cluster import Node
from tests.model_loader.test_tls import certificate

MODEL = "tiny-gguf"
CATALOGUE = "catalogue/models.yaml"
_HOST = "hub.hub.svc"
# Under it the user speaks and the model goes on.
_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
_SERVER = Path(__file__).with_name("hub_server.py").read_text()


class Hub:
    """The pod ``hub`` with one GGUF file; ``folder`` has what the loader's image is made of."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder
        folder.mkdir()
        self.file = gguf_files.write(folder, gguf_files.chatting(_TEMPLATE))
        self.authority, _ = certificate(folder, f"DNS:{_HOST}")
        node.namespace("hub")
        pems = self.authority.read_text(), (folder / "key.pem").read_text()
        node.python("hub", "hub", _SERVER, *pems, low_ports=True)
        node.service("hub", "hub", 443)
        node.put("hub", "hub", self.file, "/tmp/model.gguf")
        self.catalogue = folder / "models.yaml"
        self.catalogue.write_text(yaml.safe_dump(self._catalogue()))

    def _catalogue(self) -> dict[str, Any]:
        """Return ours with one model more, pinned."""
        catalogue: dict[str, Any] = yaml.safe_load((ROOT / CATALOGUE).read_text())
        known = catalogue["models"]["tiny-codegen"]
        data = self.file.read_bytes()
        pinned = {"path": self.file.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        facts = known | {"format": "gguf", "repository": "test/tiny", "path": None, "files": [pinned]}
        facts["architecture"] = gguf_header.read(self.file).metadata["general.architecture"]
        catalogue["models"][MODEL] = facts | {"memory_gib": {"Q8_0": known["memory_gib"]["Q8_0"]}}
        return catalogue

    def loader(self) -> str:
        """Push our loader with this catalogue, hub and authority; return by which digest it is pulled."""
        name = "loader-of-the-hub"
        files = {self.catalogue: f"/opt/app/{CATALOGUE}", self.authority: "/opt/hub.pem"}
        variables = {"HF_ENDPOINT": f"https://{_HOST}", "SSL_CERT_FILE": "/opt/hub.pem"}
        with images.store() as store:
            image = f"{images.REGISTRY}/{name}:{VERSION}"
            store.add(f"{images.REGISTRY}/loader:{VERSION}", image, files, **variables)
            to = f"127.0.0.1:{self.node.registry_port}/ai-assist/{name}:{VERSION}"
            digest = store.push(image, to, f"{USER}:{PASSWORD}")
            # Its authority is another at each run.
            store.buildah("rmi", image)
        return f"{REGISTRY}/ai-assist/{name}@{digest}"

    def answers(self) -> list[dict[str, int]]:
        """Return what it has sent so far: from which byte, and how many."""
        lines = self.node.kubectl("-n", "hub", "logs", "hub").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

"""What the whole of ``gke-dev`` needs where Google is a double and the cluster somebody else's."""

import os

import yaml

from stackfile.catalogue import ROOT
from testing.cluster.engine import Workspace
from testing.gcp.double import Google

STACK = "gke-dev"
# GKE has this class by itself; here the test cluster's own provisioner stands for Filestore.
_FILESTORE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard-rwx"},
    "provisioner": "kubernetes.io/host-path",
}


def cluster(google: Google) -> str:
    """Return Google's address of the stack's cluster."""
    place = f"projects/{google.project}/locations/us-central1-a"
    return f"https://container.googleapis.com/v1/{place}/clusters/{STACK}"


def on_google(workspace: Workspace, google: Google) -> None:
    """Point the stack at Google, and its workloads at the workspace's cluster, as a user's settings do."""
    theirs = google.environment
    workspace.variables |= {key: value for key, value in theirs.items() if os.environ.get(key) != value}
    (workspace.folder / "filestore.yaml").write_text(yaml.safe_dump(_FILESTORE))
    workspace.kubectl("apply", "-f", str(workspace.folder / "filestore.yaml"))
    region = yaml.safe_load((ROOT / f"stacks/Pulumi.{STACK}.yaml").read_text())["config"]["gcp:region"]
    settings = {"gcp:project": google.project, "gcp:region": region, "kubeconfig": str(workspace.kubeconfig)}
    for key, value in settings.items():
        assert workspace.pulumi("config", "set", key, value, "--stack", STACK).returncode == 0

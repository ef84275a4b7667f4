"""What the whole of ``gke-dev`` needs where Google is a double and the cluster somebody else's."""

import yaml

from stackfile.catalogue import ROOT
from testing.cluster.engine import Workspace
from testing.gcp.double import PROJECT, Double
from testing.gcp.engine import TOKEN

STACK = "gke-dev"
CLUSTER = f"https://container.googleapis.com/v1/projects/{PROJECT}/locations/us-central1-a/clusters/{STACK}"
# GKE has this class by itself; here the test cluster's own provisioner stands for Filestore.
_FILESTORE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard-rwx"},
    "provisioner": "kubernetes.io/host-path",
}


def on_google(workspace: Workspace, double: Double) -> None:
    """Point the stack at the double, and its workloads at the workspace's cluster, as a user's settings do."""
    ours = {"HTTPS_PROXY", "SSL_CERT_FILE"}
    workspace.variables |= {key: value for key, value in double.environment.items() if key in ours}
    workspace.variables |= {"GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1,localhost"}
    (workspace.folder / "filestore.yaml").write_text(yaml.safe_dump(_FILESTORE))
    workspace.kubectl("apply", "-f", str(workspace.folder / "filestore.yaml"))
    region = yaml.safe_load((ROOT / f"stacks/Pulumi.{STACK}.yaml").read_text())["config"]["gcp:region"]
    settings = {"gcp:project": PROJECT, "gcp:region": region, "kubeconfig": str(workspace.kubeconfig)}
    for key, value in settings.items():
        assert workspace.pulumi("config", "set", key, value, "--stack", STACK).returncode == 0

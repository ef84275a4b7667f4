"""Access to the cluster: a kubeconfig without credentials, which gets a short-lived token from gcloud."""

import json
from pathlib import Path

import pulumi

from infra.gcp.cluster import Cluster
from infra.gcp.project import Project
from stackfile.gke import Gke

INSTALL = "install gke-gcloud-auth-plugin: gcloud components install gke-gcloud-auth-plugin"


def for_workloads(own: pulumi.Output[str], config: pulumi.Config) -> pulumi.Output[str]:
    """Return the workloads' kubeconfig: the file that ``kubeconfig`` in ``config`` names, or ``own``.

    A file of the user's is for a private cluster behind a gateway. The result is then the path, so that no
    credential enters the state. Raises ``pulumi.RunError`` where the file does not exist.
    """
    named = config.get("kubeconfig")
    if named is None:
        return own
    path = Path(named).expanduser()
    if not path.is_file():
        raise pulumi.RunError(
            f"kubeconfig {path} is not a file; create it, or use the cluster's: pulumi config rm kubeconfig"
        )
    return pulumi.Output.from_input(str(path))


def of_cluster(cluster: Cluster, gke: Gke) -> pulumi.Output[str]:
    """Return the cluster's own kubeconfig. Only access by address needs the CA of the cluster."""
    google = cluster.cluster
    if gke.endpoint == "dns":
        server = google.control_plane_endpoints_config.dns_endpoint_config.endpoint
        return pulumi.Output.all(google.name, server).apply(lambda values: render(values[0], values[1], None))
    private = gke.endpoint == "private"
    server = google.private_cluster_config.private_endpoint if private else google.endpoint
    # A client key, which we never request, makes all of master_auth secret; the certificate is public.
    authority = pulumi.Output.unsecret(google.master_auth.cluster_ca_certificate)
    return pulumi.Output.all(google.name, server, authority).apply(lambda values: render(*values))


def render(name: str, host: str, authority: str | None) -> str:
    """Return a kubeconfig as JSON, which is YAML. ``authority``: the CA certificate in base64."""
    trust = {"certificate-authority-data": authority} if authority else {}
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "gke-gcloud-auth-plugin",
        "installHint": INSTALL,
        "interactiveMode": "Never",
        "provideClusterInfo": True,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{host}", **trust}}],
        "users": [{"name": name, "user": {"exec": plugin}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(document, indent=2, sort_keys=True)


def command(cluster: Cluster, gke: Gke, project: Project) -> pulumi.Output[str]:
    """Return the command that configures kubectl for the cluster."""
    flag = {"dns": " --dns-endpoint", "private": " --internal-ip", "public": ""}[gke.endpoint]
    return pulumi.Output.format(
        "gcloud container clusters get-credentials {0} --location {1} --project {2}{3}",
        cluster.name,
        gke.location,
        project.id,
        flag,
    )

"""The GKE cluster: its control plane; with Autopilot also its nodes."""

import pulumi
import pulumi_gcp as gcp

from infra.gcp import cluster_settings
from infra.gcp.network import Network
from infra.gcp.project import Project, labels
from stackfile.gke import Gke

# A control plane takes 5 to 15 minutes; a repair by Google may come first.
TIMEOUTS = pulumi.CustomTimeouts(create="45m", update="60m", delete="45m")


class Cluster(pulumi.ComponentResource):
    """A private, VPC-native cluster with Workload Identity. Node pools are resources of their own.

    The name is fixed, so that Google refuses a second creation after a crash instead of charging for it.
    """

    def __init__(
        self,
        name: str,
        gke: Gke,
        *,
        project: Project,
        network: Network,
        node_account: pulumi.Input[str],
        depends_on: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:gcp:Cluster", name, None, opts)
        mode = (
            cluster_settings.autopilot(node_account)
            if gke.autopilot
            else cluster_settings.standard(gke, node_account)
        )
        self.cluster = gcp.container.Cluster(
            name,
            name=name,
            network=network.vpc.self_link,
            subnetwork=network.subnetwork.self_link,
            resource_labels=labels(name),
            workload_identity_config={"workload_pool": f"{project.id}.svc.id.goog"},
            **cluster_settings.shared(gke),
            **mode,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=depends_on,
                protect=gke.deletion_protection,
                custom_timeouts=TIMEOUTS,
                # Both describe the default pool, which is removed at once and never returns.
                ignore_changes=[] if gke.autopilot else ["nodeConfig", "initialNodeCount"],
            ),
        )
        self.name = self.cluster.name
        self.register_outputs({"name": self.name})

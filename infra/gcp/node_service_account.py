"""Who a node is: an account of its own instead of the project's default one, which may edit everything."""

import pulumi
import pulumi_gcp as gcp

# What GKE's hardening guide names for nodes (logs and metrics), and reading images, which a node does itself.
ROLES = {
    "node": "roles/container.defaultNodeServiceAccount",
    "images": "roles/artifactregistry.reader",
}


class NodeServiceAccount(pulumi.ComponentResource):
    """A service account with the least that GKE's nodes need. Pods get theirs by Workload Identity."""

    def __init__(
        self,
        name: str,
        *,
        project: str,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:gcp:NodeServiceAccount", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.account = gcp.serviceaccount.Account(
            name,
            account_id=name,
            display_name="Nodes of the GKE cluster of ai-assist",
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        self.grants = [
            gcp.projects.IAMMember(
                f"{name}-{key}", project=project, role=role, member=self.account.member, opts=child
            )
            for key, role in ROLES.items()
        ]
        self.email = self.account.email
        self.register_outputs({"email": self.email})

"""The nodes' service account, in place of the project's default account, which may edit everything."""

import pulumi
import pulumi_gcp as gcp

# The role of GKE's hardening guide for nodes (logs and metrics), and access to images, which nodes pull.
ROLES = {
    "node": "roles/container.defaultNodeServiceAccount",
    "images": "roles/artifactregistry.reader",
}


class NodeServiceAccount(pulumi.ComponentResource):
    """A service account with the least permissions for GKE's nodes. Pods use Workload Identity."""

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

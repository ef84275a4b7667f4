"""The Google APIs that the cluster needs."""

import pulumi
import pulumi_gcp as gcp

from stackfile.gke import APIS


class Apis(pulumi.ComponentResource):
    """Enables the APIs and never disables them, because other resources of the project may use them."""

    def __init__(self, name: str, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:gcp:Apis", name, None, opts)
        self.services: list[pulumi.Resource] = [
            gcp.projects.Service(
                f"{name}-{api.partition('.')[0]}",
                service=api,
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in APIS
        ]
        self.register_outputs({})

"""The network of the cluster's nodes, pods and services."""

import pulumi
import pulumi_gcp as gcp

from stackfile.gke import AddressRanges

PODS, SERVICES = "pods", "services"


class Network(pulumi.ComponentResource):
    """A VPC with one subnetwork, which has separate ranges for pods and services."""

    def __init__(
        self,
        name: str,
        ranges: AddressRanges,
        *,
        region: str,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:gcp:Network", name, None, opts)
        self.vpc = gcp.compute.Network(
            name,
            name=name,
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        self.subnetwork = self._subnetwork(name, ranges, region)
        self.register_outputs({"subnetwork": self.subnetwork.self_link})

    def _subnetwork(self, name: str, ranges: AddressRanges, region: str) -> gcp.compute.Subnetwork:
        return gcp.compute.Subnetwork(
            name,
            name=name,
            network=self.vpc.self_link,
            region=region,
            ip_cidr_range=str(ranges.nodes),
            # Nodes have no public address, but can reach Google's APIs, including the image registry.
            private_ip_google_access=True,
            secondary_ip_ranges=[
                {"range_name": PODS, "ip_cidr_range": str(ranges.pods)},
                {"range_name": SERVICES, "ip_cidr_range": str(ranges.services)},
            ],
            log_config={
                "aggregation_interval": "INTERVAL_10_MIN",
                "flow_sampling": 0.5,
                "metadata": "INCLUDE_ALL_METADATA",
            },
            opts=pulumi.ResourceOptions(parent=self),
        )

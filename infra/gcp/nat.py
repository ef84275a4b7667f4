"""Outbound access for nodes without public addresses: images and models from outside Google."""

import pulumi
import pulumi_gcp as gcp


class Nat(pulumi.ComponentResource):
    """A router and a NAT for one network; it does not accept connections from outside."""

    def __init__(
        self,
        name: str,
        *,
        network: pulumi.Input[str],
        region: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:gcp:Nat", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.router = gcp.compute.Router(name, name=name, network=network, region=region, opts=child)
        self.nat = gcp.compute.RouterNat(
            name,
            name=name,
            router=self.router.name,
            region=region,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
            log_config={"enable": True, "filter": "ERRORS_ONLY"},
            opts=child,
        )
        self.register_outputs({})

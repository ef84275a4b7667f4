"""Filestore: NFS servers on a network."""

from collections.abc import Iterator
from types import MappingProxyType

from testing.gcp.cloud import Body, GoogleError, State
from testing.gcp.kinds.base import RFC1035, Inputs, Kind, Rules, missing
from testing.gcp.kinds.compute import NETWORK
from testing.gcp.kinds.places import Where, is_region, is_zone, network
from testing.gcp.schema import Finding

# The least and the most GiB of each tier (cloud.google.com/filestore/docs/service-tiers).
_TIERS = {
    "STANDARD": (1024, 65_434),
    "BASIC_HDD": (1024, 65_434),
    "PREMIUM": (2560, 65_434),
    "BASIC_SSD": (2560, 65_434),
    "ZONAL": (1024, 102_400),
    "REGIONAL": (1024, 102_400),
    "ENTERPRISE": (1024, 10_240),
}
_BASIC = {"STANDARD", "BASIC_HDD", "PREMIUM", "BASIC_SSD"}
_OF_A_REGION = {"REGIONAL", "ENTERPRISE"}


class Instance(Kind):
    token, api, labels, autoname = "gcp:filestore/instance:Instance", "file.googleapis.com", "labels", 63
    links = frozenset({"networks.network"})
    replaces = frozenset(
        {
            "name",
            "project",
            "location",
            "zone",
            "tier",
            "networks",
            "fileShares.name",
            "kmsKeyName",
            "protocol",
            "tags",
        }
    )
    computed = ("networks[].ipAddresses",)
    rules = Rules(
        patterns={"name": RFC1035},
        allowed={"protocol": ("NFS_V3", "NFS_V4_1"), "networks[].modes[]": ("MODE_IPV4", "MODE_IPV6")},
    )
    local = MappingProxyType({"deletionPolicy": "DELETE"})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        share = inputs.get("fileShares", {}).get("name", "x")
        most = 16 if inputs.get("tier") in _BASIC else 63
        if len(share) > most:
            yield Finding("fileShares.name", f"expected at most {most} characters")

    def identity(self, inputs: Inputs, where: Where) -> str:
        location = inputs.get("location") or inputs.get("zone") or where.zone or where.region
        return (
            f"projects/{inputs.get('project', where.project)}/locations/{location}/instances/{inputs['name']}"
        )

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        if inputs["tier"] not in _TIERS:
            raise GoogleError(400, f'Tier "{inputs["tier"]}" is not one of {", ".join(_TIERS)}', "badRequest")
        location = self.identity(inputs, where).split("/")[3]
        if not (is_region(location) if inputs["tier"] in _OF_A_REGION else is_zone(location)):
            kind = "region" if inputs["tier"] in _OF_A_REGION else "zone"
            raise GoogleError(400, f'Tier {inputs["tier"]} needs a {kind}, not "{location}"', "badRequest")
        least, most = _TIERS[inputs["tier"]]
        size = inputs["fileShares"]["capacityGb"]
        if not least <= size <= most:
            raise GoogleError(
                400, f"Tier {inputs['tier']} has {least} to {most} GiB, not {size}", "badRequest"
            )
        if old is not None and inputs["tier"] in _BASIC and size < old["fileShares"]["capacityGb"]:
            raise GoogleError(400, f"Tier {inputs['tier']} cannot shrink to {size} GiB", "badRequest")
        for one in inputs["networks"]:
            if state.find(NETWORK, net := network(one["network"], where)) is None:
                raise missing(net)

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        _, project, _, location, _, _ = self.identity(inputs, where).split("/")
        address = old["networks"][0]["ipAddresses"] if old else [f"10.99.{state.number() % 250}.2"]
        return {
            "project": project,
            "location": location,
            "zone": location,
            "createTime": "2026-01-01T00:00:00Z",
            "etag": f"e{state.number()}",
            "networks": [
                one | {"ipAddresses": address, "connectMode": "DIRECT_PEERING"} for one in inputs["networks"]
            ],
        }

    def delete(self, state: State, identity: str, last: Body) -> None:
        if state.all(self.token)[identity].get("deletionProtectionEnabled"):
            raise GoogleError(
                400, f"Instance {identity} has deletion protection enabled", "failedPrecondition"
            )
        super().delete(state, identity, last)

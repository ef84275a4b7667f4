"""Compute Engine: networks, subnetworks, routers and their NATs."""

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network
from types import MappingProxyType
from typing import Any

from testing.gcp.cloud import Body, GoogleError, State
from testing.gcp.kinds.base import RFC1035, Inputs, Kind, Rules, get, missing
from testing.gcp.kinds.places import Where, is_region, network, relative
from testing.gcp.schema import Finding

API = "compute.googleapis.com"
_ADDRESS = "https://www.googleapis.com/compute/v1/"
_MADE = "2026-01-01T00:00:00.000-08:00"
NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
ROUTER = "gcp:compute/router:Router"
NAT = "gcp:compute/routerNat:RouterNat"


class Network(Kind):
    token, api, autoname = NETWORK, API, 63
    replaces = frozenset(
        {
            "name",
            "project",
            "autoCreateSubnetworks",
            "description",
            "internalIpv6Range",
            "networkProfile",
            "params",
        }
    )
    rules = Rules(
        patterns={"name": RFC1035},
        allowed={"routingMode": ("REGIONAL", "GLOBAL")},
    )
    local = MappingProxyType({"deletionPolicy": "DELETE", "deleteDefaultRoutesOnCreate": False})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        if not 1300 <= inputs.get("mtu", 1460) <= 8896:
            yield Finding("mtu", f"expected 1300 to 8896, not {inputs['mtu']}")

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"projects/{inputs.get('project', where.project)}/global/networks/{inputs['name']}"

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        identity = self.identity(inputs, where)
        number = old["numericId"] if old else str(10**15 + state.number())
        return {
            "project": inputs.get("project", where.project),
            "autoCreateSubnetworks": inputs.get("autoCreateSubnetworks", True),
            "routingMode": inputs.get("routingMode", "REGIONAL"),
            "mtu": inputs.get("mtu", 0),
            "gatewayIpv4": "",
            "numericId": number,
            "networkId": number,
            "selfLink": f"{_ADDRESS}{identity}",
        }

    def users(self, state: State, identity: str) -> list[str]:
        tokens = (SUBNETWORK, ROUTER, "gcp:container/cluster:Cluster")
        used = [
            name
            for token in tokens
            for name, one in state.all(token).items()
            if one.get("network") and relative(one["network"]) == identity
        ]
        for name, one in state.all("gcp:filestore/instance:Instance").items():
            used += [
                name
                for each in one["networks"]
                if network(each["network"], Where(identity.split("/")[1])) == identity
            ]
        return used


class Regional(Kind):
    """What is in a region and on a network."""

    collection = ""
    links = frozenset({"network", "region"})

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"projects/{inputs.get('project', where.project)}/regions/{region(inputs, where)}/{self.collection}/{inputs['name']}"

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        place = region(inputs, where)
        if not is_region(place):
            raise GoogleError(400, f"Unknown region '{place}'", "invalid")
        wanted = network(inputs["network"], where) if inputs.get("network") else ""
        if wanted and state.find(NETWORK, wanted) is None:
            raise missing(wanted)

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        made = {
            "project": inputs.get("project", where.project),
            "region": region(inputs, where),
            "creationTimestamp": _MADE,
            "selfLink": f"{_ADDRESS}{self.identity(inputs, where)}",
        }
        return made | (
            {"network": f"{_ADDRESS}{network(inputs['network'], where)}"} if inputs.get("network") else {}
        )


class Subnetwork(Regional):
    token, api, autoname, collection = SUBNETWORK, API, 63, "subnetworks"
    replaces = frozenset(
        {
            "name",
            "project",
            "network",
            "region",
            "description",
            "externalIpv6Prefix",
            "internalIpv6Prefix",
            "params",
        }
        | {"reservedInternalRange", "resolveSubnetMask"}
    )
    rules = Rules(
        patterns={"name": RFC1035, "secondaryIpRanges[].rangeName": RFC1035},
        allowed={
            "logConfig.aggregationInterval": tuple(
                f"INTERVAL_{length}" for length in ("5_SEC", "30_SEC", "1_MIN", "5_MIN", "10_MIN", "15_MIN")
            ),
            "logConfig.metadata": ("EXCLUDE_ALL_METADATA", "INCLUDE_ALL_METADATA", "CUSTOM_METADATA"),
            "role": ("ACTIVE", "BACKUP"),
            "stackType": ("IPV4_ONLY", "IPV4_IPV6", "IPV6_ONLY"),
        },
    )
    local = MappingProxyType({"deletionPolicy": "DELETE", "sendSecondaryIpRangeIfEmpty": False})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        if not 0 <= get(inputs, "logConfig.flowSampling", 0.5) <= 1:
            yield Finding("logConfig.flowSampling", "expected 0.0 to 1.0")

    def forces(self, path: str, old: Any, new: Any) -> bool:
        """Return whether a range gets smaller or moves; a larger one that holds the old is an update."""
        if path == "ipCidrRange" and isinstance(old, str) and isinstance(new, str):
            return not ip_network(new, strict=False).supernet_of(ip_network(old, strict=False))  # type: ignore[arg-type]
        return super().forces(path, old, new)

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        super().admit(state, inputs, where, old)
        ours = ranges(inputs)
        names = [one["rangeName"] for one in inputs.get("secondaryIpRanges", ())]
        if len(set(names)) < len(names):
            raise GoogleError(
                400, "Invalid value for field 'secondaryIpRanges': duplicate range names", "invalid"
            )
        taken = dict(ours)
        for identity, one in state.all(SUBNETWORK).items():
            if identity != self.identity(inputs, where) and relative(one["network"]) == network(
                inputs["network"], where
            ):
                taken |= {f"{identity} {label}": other for label, other in ranges(one).items()}
        for label, mine in ours.items():
            clash = next(
                (name for name, other in taken.items() if name != label and mine.overlaps(other)), None
            )
            if clash:
                raise GoogleError(
                    400,
                    f"Invalid IPCidrRange: {mine} ({label}) conflicts with {clash} {taken[clash]}",
                    "invalid",
                )
        self._keep_used_ranges(state, inputs, where, old)

    def _keep_used_ranges(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        left = {one["rangeName"] for one in inputs.get("secondaryIpRanges", ())}
        for name in self.users(state, self.identity(inputs, where)) if old else ():
            policy = state.all("gcp:container/cluster:Cluster")[name].get("ipAllocationPolicy", {})
            for key in ("clusterSecondaryRangeName", "servicesSecondaryRangeName"):
                if policy.get(key) and policy[key] not in left:
                    raise GoogleError(
                        400,
                        f"secondary range {policy[key]} is in use by '{name}'",
                        "resourceInUseByAnotherResource",
                    )

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        number = old["subnetworkId"] if old else 10**12 + state.number()
        return super().body(state, inputs, where, old) | {
            "subnetworkId": number,
            "fingerprint": f"{state.number():08x}",
            "gatewayAddress": str(IPv4Network(inputs["ipCidrRange"])[1]),
            "purpose": inputs.get("purpose", "PRIVATE"),
            "stackType": inputs.get("stackType", "IPV4_ONLY"),
            "privateIpv6GoogleAccess": inputs.get("privateIpv6GoogleAccess", "DISABLE_GOOGLE_ACCESS"),
        }

    def users(self, state: State, identity: str) -> list[str]:
        clusters = state.all("gcp:container/cluster:Cluster").items()
        return [name for name, one in clusters if relative(one.get("subnetwork", "")) == identity]


def ranges(inputs: Inputs) -> dict[str, IPv4Network]:
    """Return the address ranges of a subnetwork by name. Raises GoogleError for anything but a range."""
    given = {"nodes": inputs["ipCidrRange"]}
    given |= {one["rangeName"]: one["ipCidrRange"] for one in inputs.get("secondaryIpRanges", ())}
    try:
        found = {name: IPv4Network(text) for name, text in given.items()}
    except ValueError as error:
        raise GoogleError(400, f"Invalid value for field 'ipCidrRange': {error}", "invalid") from None
    for name, one in found.items():
        if one.prefixlen > 29:
            raise GoogleError(
                400, f"Invalid value for field 'ipCidrRange': {one} ({name}) is smaller than /29", "invalid"
            )
    return found


class Router(Regional):
    token, api, autoname, collection = ROUTER, API, 63, "routers"
    replaces = frozenset(
        {"name", "project", "network", "region", "encryptedInterconnectRouter", "nccGateway", "params"}
    )
    rules = Rules(
        patterns={"name": RFC1035},
        conflicts=(("nccGateway", "network"),),
    )
    local = MappingProxyType({"deletionPolicy": "DELETE"})

    def delete(self, state: State, identity: str, last: Body) -> None:
        """Remove the router's NATs, which are parts of it."""
        _, project, _, place, _, name = identity.split("/")
        super().delete(state, identity, last)
        state.remove(NAT, f"{project}/{place}/{name}")


class RouterNat(Kind):
    """A part of its router: it is made and removed by changing that."""

    token, api, autoname = NAT, API, 63
    links = frozenset({"router", "region"})
    replaces = frozenset({"name", "project", "router", "region", "endpointTypes", "initialNatIps", "type"})
    sets = frozenset({"natIps", "drainNatIps", "subnetworks", "rules"})
    rules = Rules(
        patterns={"name": RFC1035},
        allowed={
            "natIpAllocateOption": ("MANUAL_ONLY", "AUTO_ONLY"),
            "sourceSubnetworkIpRangesToNat": (
                "ALL_SUBNETWORKS_ALL_IP_RANGES",
                "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES",
                "LIST_OF_SUBNETWORKS",
            ),
            "logConfig.filter": ("ERRORS_ONLY", "TRANSLATIONS_ONLY", "ALL"),
            "type": ("PUBLIC", "PRIVATE"),
        },
    )
    local = MappingProxyType({"deletionPolicy": "DELETE"})

    def identity(self, inputs: Inputs, where: Where) -> str:
        router = inputs["router"].rpartition("/")[2]
        return f"{inputs.get('project', where.project)}/{region(inputs, where)}/{router}/{inputs['name']}"

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        project, place, router, name = self.identity(inputs, where).split("/")
        owner = f"projects/{project}/regions/{place}/routers/{router}"
        if (found := state.find(ROUTER, owner)) is None:
            raise missing(owner)
        if inputs.get("natIpAllocateOption") == "MANUAL_ONLY" and not inputs.get("natIps"):
            raise GoogleError(400, f"NAT {name}: MANUAL_ONLY needs natIps", "invalid")
        source = inputs["sourceSubnetworkIpRangesToNat"]
        if (source == "LIST_OF_SUBNETWORKS") != bool(inputs.get("subnetworks")):
            raise GoogleError(400, f"NAT {name}: subnetworks and LIST_OF_SUBNETWORKS go together", "invalid")
        for other, one in state.all(NAT).items():
            beside = state.find(ROUTER, f"projects/{project}/regions/{place}/routers/{one['router']}") or {}
            if (
                other != self.identity(inputs, where)
                and one["region"] == place
                and beside.get("network") == found["network"]
            ) and "ALL_SUBNETWORKS" in one["sourceSubnetworkIpRangesToNat"] + source:
                raise GoogleError(
                    400, f"NAT {other} covers all subnetworks of this network already", "invalid"
                )

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        project, place, router, _ = self.identity(inputs, where).split("/")
        return {
            "project": project,
            "region": place,
            "router": router,
            "type": inputs.get("type", "PUBLIC"),
            "minPortsPerVm": inputs.get("minPortsPerVm", 0),
            "enableEndpointIndependentMapping": inputs.get("enableEndpointIndependentMapping", False),
            "endpointTypes": inputs.get("endpointTypes", ["ENDPOINT_TYPE_VM"]),
        }


def region(inputs: Inputs, where: Where) -> str:
    """Return the region of a resource: its own, or the provider's. Raises GoogleError without one."""
    found = inputs.get("region") or where.region
    if not found:
        raise GoogleError(400, "region: required field is not set", "required")
    return str(found).rpartition("/")[2]

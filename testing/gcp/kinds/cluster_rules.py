"""What Google refuses to make a cluster of."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import IPv4Network
from typing import Any

from testing.gcp.cloud import Body, State
from testing.gcp.kinds import versions
from testing.gcp.kinds.base import Inputs, get
from testing.gcp.kinds.compute import NETWORK, SUBNETWORK, ranges
from testing.gcp.kinds.places import Where, is_region, is_zone, network, region_of, relative, subnetwork
from testing.gcp.schema import Finding

# GKE wants 48 h of maintenance in any 32 days, in windows of at least 4 h.
_WINDOW, _AVAILABLE, _PERIOD_DAYS = timedelta(hours=4), timedelta(hours=48), 32


def check(inputs: Inputs) -> Iterator[Finding]:
    """Yield what Google's provider refuses before it makes a call."""
    block = get(inputs, "privateClusterConfig.masterIpv4CidrBlock")
    if block and not block.endswith("/28"):
        yield Finding("privateClusterConfig.masterIpv4CidrBlock", f"expected a range of /28, not {block}")
    for key in ("startTime", "endTime"):
        path = f"maintenancePolicy.recurringWindow.{key}"
        if (text := get(inputs, path)) is not None and _moment(text) is None:
            yield Finding(path, f"expected a time such as 2026-01-03T02:00:00Z, not {text!r}")
    if inputs.get("nodeVersion") and inputs.get("removeDefaultNodePool"):
        yield Finding("nodeVersion", "nodeVersion can only be specified if removeDefaultNodePool is not true")


def faults(state: State, inputs: Inputs, where: Where, location: str, old: Body | None) -> Iterator[str]:
    """Yield what GKE refuses."""
    yield from _places(inputs, location)
    yield from _networks(state, inputs, where, location)
    yield from _private(inputs)
    yield from _mode(inputs, location, old)
    yield from _upgrades(inputs, old)
    pool = get(inputs, "workloadIdentityConfig.workloadPool")
    if pool and pool != f"{inputs.get('project', where.project)}.svc.id.goog":
        yield f'Workload pool "{pool}" is not that of the project'


def _places(inputs: Inputs, location: str) -> Iterator[str]:
    if not is_region(location) and not is_zone(location):
        yield f'Location "{location}" does not exist.'
    for zone in inputs.get("nodeLocations", ()):
        if not is_zone(zone) or region_of(zone) != region_of(location):
            yield f'Location "{zone}" is not a zone of {region_of(location)}'
        if zone == location:
            yield f'nodeLocations must not contain the cluster\'s own zone "{zone}"'


def _networks(state: State, inputs: Inputs, where: Where, location: str) -> Iterator[str]:
    net = network(inputs.get("network", "default"), where)
    if state.find(NETWORK, net) is None:
        yield f'Network "{net}" does not exist.'
        return
    name = subnetwork(inputs.get("subnetwork", "default"), where, region_of(location))
    sub = state.find(SUBNETWORK, name)
    if sub is None or relative(sub["network"]) != net:
        yield f'Subnetwork "{name}" does not exist in network "{net}".'
        return
    if sub["region"] != region_of(location):
        yield f'Subnetwork "{name}" is in {sub["region"]}, the cluster in {region_of(location)}'
    named = ranges(sub)
    policy = inputs.get("ipAllocationPolicy", {})
    asked = [policy.get(f"{what}SecondaryRangeName") for what in ("cluster", "services")]
    for one in filter(None, asked):
        if one not in named or one == "nodes":
            yield f'Secondary range "{one}" does not exist in subnetwork "{name}".'
    if asked[0] and asked[0] == asked[1]:
        yield f'Pods and services cannot share the secondary range "{asked[0]}"'
    block = get(inputs, "privateClusterConfig.masterIpv4CidrBlock")
    for label, taken in named.items() if block else ():
        if IPv4Network(block).overlaps(taken):
            yield f'masterIpv4CidrBlock {block} overlaps with the range {taken} ({label}) of "{name}"'


def _private(inputs: Inputs) -> Iterator[str]:
    config = inputs.get("privateClusterConfig", {})
    if (
        config.get("enablePrivateNodes")
        and "ipAllocationPolicy" not in inputs
        and not inputs.get("enableAutopilot")
    ):
        yield "Private nodes need a VPC-native cluster: ipAllocationPolicy is missing"
    by_address = get(inputs, "controlPlaneEndpointsConfig.ipEndpointsConfig.enabled", True)
    if config.get("enablePrivateEndpoint") and by_address and "masterAuthorizedNetworksConfig" not in inputs:
        yield "A private endpoint needs masterAuthorizedNetworksConfig"
    for block in get(inputs, "masterAuthorizedNetworksConfig.cidrBlocks", ()):
        try:
            IPv4Network(block["cidrBlock"])
        except ValueError:
            yield f'Authorized network "{block["cidrBlock"]}" is not a range of addresses'


def _mode(inputs: Inputs, location: str, old: Body | None) -> Iterator[str]:
    channel = get(inputs, "releaseChannel.channel", "REGULAR")
    if inputs.get("enableAutopilot"):
        if not is_region(location):
            yield f'Autopilot clusters must be regional; "{location}" is a zone'
        if channel == "UNSPECIFIED":
            yield "Autopilot clusters must be in a release channel"
    elif old is None and not inputs.get("initialNodeCount") and not inputs.get("nodePools"):
        yield "Cluster.initial_node_count must be greater than zero"
    if inputs.get("datapathProvider") == "ADVANCED_DATAPATH" and get(inputs, "networkPolicy.enabled"):
        yield "Enabling NetworkPolicy for clusters with DatapathProvider=ADVANCED_DATAPATH is not allowed"
    if inputs.get("datapathProvider") == "ADVANCED_DATAPATH" and inputs.get("networkingMode") == "ROUTES":
        yield "DatapathProvider=ADVANCED_DATAPATH needs a VPC-native cluster"


def _upgrades(inputs: Inputs, old: Body | None) -> Iterator[str]:
    asked = inputs.get("minMasterVersion")
    version = versions.resolve(asked, get(inputs, "releaseChannel.channel", "REGULAR"))
    if old is not None and asked:
        master = old["masterVersion"]
        if versions.minor(version) < versions.minor(master):
            yield f'Master cannot be downgraded from "{master}" to "{version}"'
        if versions.minor(version) > versions.minor(master) + 1:
            yield f'Master cannot be upgraded from "{master}" to "{version}": one minor version at a time'
    window = get(inputs, "maintenancePolicy.recurringWindow")
    if window:
        yield from _window(window)


def _window(window: dict[str, Any]) -> Iterator[str]:
    start, end = _moment(window["startTime"]), _moment(window["endTime"])
    if start is None or end is None or end - start < _WINDOW:
        yield "Maintenance windows must be at least 4 hours long"
        return
    parts = dict(one.partition("=")[::2] for one in window["recurrence"].split(";"))
    weekly = len(parts["BYDAY"].split(",")) if "BYDAY" in parts else 1
    times = {"DAILY": _PERIOD_DAYS, "WEEKLY": _PERIOD_DAYS // 7 * weekly}.get(parts.get("FREQ", ""))
    if times is None:
        yield f'Recurrence "{window["recurrence"]}" is not FREQ=DAILY or FREQ=WEEKLY'
    elif times * (end - start) < _AVAILABLE:
        yield "Maintenance must be possible for 48 hours in any 32 days"


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None

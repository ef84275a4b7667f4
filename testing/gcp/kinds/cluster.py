"""GKE's clusters: what can be asked for, and what Google answers with."""

import base64
import hashlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from testing.gcp.cloud import Body, Cloud, GoogleError, State
from testing.gcp.kinds import cluster_rules, nodes, versions
from testing.gcp.kinds.base import Inputs, Kind, Rules, exists, get
from testing.gcp.kinds.places import Where, network, region_of, subnetwork
from testing.gcp.schema import Finding

CLUSTER = "gcp:container/cluster:Cluster"
POOL = "gcp:container/nodePool:NodePool"
_DEFAULT_POOL = "default-pool"
_AUTOPILOT = "enableAutopilot"
_NOT_ON_AUTOPILOT = (
    "addonsConfig.networkPolicyConfig",
    "addonsConfig.dnsCacheConfig",
    "addonsConfig.statefulHaConfig",
    "clusterAutoscaling.enabled",
    "clusterAutoscaling.resourceLimits",
    "binaryAuthorization.enabled",
    "enableShieldedNodes",
    "networkPolicy",
    "nodePools",
    "removeDefaultNodePool",
    "defaultMaxPodsPerNode",
    "enableIntranodeVisibility",
)


class Cluster(Kind):
    token, api, autoname, labels, seconds = CLUSTER, "container.googleapis.com", 40, "resourceLabels", 0.02
    links = frozenset({"network", "subnetwork"})
    replaces = frozenset(
        {
            "name",
            "location",
            "project",
            "description",
            "network",
            "subnetwork",
            "clusterIpv4Cidr",
            "enableAutopilot",
        }
        | {"enableKubernetesAlpha", "enableTpu", "initialNodeCount", "ipAllocationPolicy", "networkingMode"}
        | {
            "privateClusterConfig.masterIpv4CidrBlock",
            "privateClusterConfig.privateEndpointSubnetwork",
            "nodePools",
        }
        | {
            "masterAuth.clientCertificateConfig",
            "defaultMaxPodsPerNode",
            "datapathProvider",
            "confidentialNodes",
        }
        | {f"nodeConfig.{name}" for name in nodes.REPLACES}
    )
    sets = frozenset(
        {
            "nodeLocations",
            "nodeConfig.oauthScopes",
            "loggingConfig.enableComponents",
            "monitoringConfig.enableComponents",
        }
        | {"masterAuthorizedNetworksConfig.cidrBlocks"}
    )
    computed = (
        "controlPlaneEndpointsConfig.dnsEndpointConfig.endpoint",
        "privateClusterConfig.privateEndpoint",
        "privateClusterConfig.publicEndpoint",
        "masterAuth.clusterCaCertificate",
        "ipAllocationPolicy.clusterIpv4CidrBlock",
        "ipAllocationPolicy.servicesIpv4CidrBlock",
        "nodePools",
    )
    secrets = ("masterAuth.clientKey",)
    rules = Rules(
        patterns={"name": r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?"},
        allowed={
            "networkingMode": ("VPC_NATIVE", "ROUTES"),
            "releaseChannel.channel": ("UNSPECIFIED", "RAPID", "REGULAR", "STABLE", "EXTENDED"),
            "datapathProvider": ("DATAPATH_PROVIDER_UNSPECIFIED", "LEGACY_DATAPATH", "ADVANCED_DATAPATH"),
            "gatewayApiConfig.channel": ("CHANNEL_DISABLED", "CHANNEL_EXPERIMENTAL", "CHANNEL_STANDARD"),
            "securityPostureConfig.mode": ("DISABLED", "BASIC", "ENTERPRISE", "MODE_UNSPECIFIED"),
            "securityPostureConfig.vulnerabilityMode": (
                "VULNERABILITY_DISABLED",
                "VULNERABILITY_BASIC",
                "VULNERABILITY_ENTERPRISE",
                "VULNERABILITY_MODE_UNSPECIFIED",
            ),
            **{f"nodeConfig.{path}": values for path, values in nodes.ALLOWED.items()},
        },
        least={f"nodeConfig.{path}": least for path, least in nodes.LEAST.items()},
        conflicts=(
            ("clusterIpv4Cidr", "ipAllocationPolicy"),
            *((name, _AUTOPILOT) for name in _NOT_ON_AUTOPILOT),
        ),
    )
    local = MappingProxyType(
        {
            "deletionProtection": True,
            "deletionPolicy": "DELETE",
            "removeDefaultNodePool": None,
            "minMasterVersion": None,
            "allowNetAdmin": None,
            "ignoreNodeCountChanges": False,
            "skipNodePoolRefresh": None,
        }
    )

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        yield from cluster_rules.check(inputs)

    def identity(self, inputs: Inputs, where: Where) -> str:
        location = inputs.get("location") or where.zone or where.region
        return (
            f"projects/{inputs.get('project', where.project)}/locations/{location}/clusters/{inputs['name']}"
        )

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        self.needs_api(state)
        identity = self.identity(inputs, where)
        if state.find(CLUSTER, identity) is not None:
            raise exists(identity)
        super().create(state, inputs, where)
        if not inputs.get(_AUTOPILOT):
            self._default_pool(state, identity, inputs)
        return identity

    def finish(self, cloud: Cloud, identity: str, inputs: Inputs) -> None:
        """Remove the default pool where that was asked for: GKE has no cluster that is made without one."""
        if inputs.get("removeDefaultNodePool"):
            pool = f"{identity}/nodePools/{_DEFAULT_POOL}"
            with cloud.transaction() as state:
                state.remove(POOL, pool)
            cloud.note("Delete", POOL, _DEFAULT_POOL)

    def update(self, state: State, identity: str, inputs: Inputs, where: Where) -> None:
        busy(state, identity)
        super().update(state, identity, inputs, where)

    def delete(self, state: State, identity: str, last: Body) -> None:
        busy(state, identity)
        super().delete(state, identity, last)

    def retries(self, refused: GoogleError) -> bool:
        return refused.reason == "failedPrecondition"

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        location = self.identity(inputs, where).split("/")[3]
        for fault in cluster_rules.faults(state, inputs, where, location, old):
            raise GoogleError(400, fault, "badRequest")
        nodes.admit(state, inputs.get("nodeConfig", {}))
        nodes.admit(state, get(inputs, "clusterAutoscaling.autoProvisioningDefaults", {}))

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        identity = self.identity(inputs, where)
        project, location = identity.split("/")[1], identity.split("/")[3]
        version = versions.resolve(
            inputs.get("minMasterVersion"), get(inputs, "releaseChannel.channel", "REGULAR")
        )
        if old is not None:
            version = (
                max(version, old["masterVersion"], key=versions.order)
                if inputs.get("minMasterVersion")
                else old["masterVersion"]
            )
        subnet = subnetwork(inputs.get("subnetwork", "default"), where, region_of(location))
        zones = sorted({*inputs.get("nodeLocations", ()), *([location] if location.count("-") == 2 else ())})
        place = "zones" if location.count("-") == 2 else "locations"
        return {
            "project": project,
            "location": location,
            "network": network(inputs.get("network", "default"), where),
            "subnetwork": subnet,
            "nodeLocations": inputs.get("nodeLocations", []),
            "masterVersion": version,
            "nodeVersion": version,
            "labelFingerprint": f"{state.number():08x}",
            "selfLink": f"https://container.googleapis.com/v1/{identity.replace('locations', place, 1)}",
            "tpuIpv4CidrBlock": "",
            "~zones": zones or [f"{region_of(location)}-{letter}" for letter in "abc"],
            **_reached(state, identity, inputs, old),
            **_ranges(state, subnet, inputs),
        }

    def view(self, state: State, body: Body) -> Body:
        found = super().view(state, body)
        identity = f"projects/{body['project']}/locations/{body['location']}/clusters/{body['name']}"
        pools = [one for name, one in state.all(POOL).items() if name.startswith(f"{identity}/")]
        # GKE reports the first pool's settings as the cluster's; a cluster without pools has none.
        found.pop("nodeConfig", None)
        if pools:
            found["nodeConfig"] = pools[0]["nodeConfig"]
        keys = ("name", "version", "nodeCount", "nodeLocations", "instanceGroupUrls")
        found["nodePools"] = [{key: one[key] for key in keys} for one in pools]
        return found | {"operation": ""}

    def _default_pool(self, state: State, identity: str, inputs: Inputs) -> None:
        owner = state.all(CLUSTER)[identity]
        state.put(
            POOL,
            f"{identity}/nodePools/{_DEFAULT_POOL}",
            {
                "name": _DEFAULT_POOL,
                "cluster": owner["name"],
                "version": owner["nodeVersion"],
                "nodeCount": inputs.get("initialNodeCount", 0),
                "nodeLocations": owner["~zones"],
                "instanceGroupUrls": [],
                "nodeConfig": nodes.completed(inputs.get("nodeConfig", {}), beside_cpu_nodes=False),
            },
        )


def busy(state: State, cluster: str) -> None:
    """Raise GoogleError while the cluster has an operation under way: GKE does one at a time."""
    if running := state.running(cluster):
        message = f"Cluster is running incompatible operation {running}."
        raise GoogleError(400, message, "failedPrecondition")


def _reached(state: State, identity: str, inputs: Inputs, old: Body | None) -> dict[str, Any]:
    """Return who reaches the API server, and where: its name, its addresses, its certificate."""
    number = old["~number"] if old is not None else state.number() % 200
    digest = hashlib.sha256(f"{identity} {number}".encode()).hexdigest()[:24]
    region = region_of(identity.split("/")[3])
    public, private = f"203.0.113.{number}", "172.16.0.2"
    config = inputs.get("privateClusterConfig", {})
    if config.get("masterIpv4CidrBlock"):
        private = config["masterIpv4CidrBlock"].partition("/")[0].rpartition(".")[0] + ".2"
    reached: dict[str, Any] = {
        "~number": number,
        "endpoint": private if config.get("enablePrivateEndpoint") else public,
        "masterAuth": {
            "clientCertificateConfig": {"issueClientCertificate": False},
            **inputs.get("masterAuth", {}),
            "clusterCaCertificate": base64.b64encode(f"certificate of {digest}".encode()).decode(),
            "clientCertificate": "",
            "clientKey": "",
        },
    }
    if config:
        reached["privateClusterConfig"] = config | {
            "privateEndpoint": private,
            "publicEndpoint": public,
            "peeringName": "",
        }
    if ends := inputs.get("controlPlaneEndpointsConfig"):
        named = {"endpoint": f"gke-{digest}-{state.document['number'] % 10}.{region}.gke.goog"}
        if old is not None:
            named = {
                "endpoint": get(
                    old, "controlPlaneEndpointsConfig.dnsEndpointConfig.endpoint", named["endpoint"]
                )
            }
        reached["controlPlaneEndpointsConfig"] = ends | {
            "dnsEndpointConfig": ends.get("dnsEndpointConfig", {}) | named
        }
    return reached


def _ranges(state: State, subnet: str, inputs: Inputs) -> dict[str, Any]:
    """Return the ranges of pods and services, as the subnetwork's secondary ranges have them."""
    policy = inputs.get("ipAllocationPolicy")
    if policy is None:
        return {
            "clusterIpv4Cidr": inputs.get("clusterIpv4Cidr", "10.0.0.0/14"),
            "servicesIpv4Cidr": "10.4.0.0/20",
        }
    known = state.find("gcp:compute/subnetwork:Subnetwork", subnet) or {}
    named = {one["rangeName"]: one["ipCidrRange"] for one in known.get("secondaryIpRanges", ())}
    pods = named.get(
        policy.get("clusterSecondaryRangeName"), policy.get("clusterIpv4CidrBlock", "10.0.0.0/14")
    )
    services = named.get(
        policy.get("servicesSecondaryRangeName"), policy.get("servicesIpv4CidrBlock", "10.4.0.0/20")
    )
    return {
        "clusterIpv4Cidr": pods,
        "servicesIpv4Cidr": services,
        "ipAllocationPolicy": policy
        | {"clusterIpv4CidrBlock": pods, "servicesIpv4CidrBlock": services, "stackType": "IPV4"},
    }

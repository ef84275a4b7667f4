"""GKE's node pools."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from testing.gcp.cloud import STATUS, Body, GoogleError, State
from testing.gcp.kinds import nodes, versions
from testing.gcp.kinds.base import Inputs, Kind, Rules, exists, get, missing
from testing.gcp.kinds.cluster import CLUSTER, POOL, busy
from testing.gcp.kinds.places import Where, is_zone, region_of, relative
from testing.gcp.schema import Finding

_PER_ZONE, _TOTAL = ("minNodeCount", "maxNodeCount"), ("totalMinNodeCount", "totalMaxNodeCount")
# cloud.google.com/kubernetes-engine/quotas: nodes of one pool in one zone.
_MOST = 1000


class NodePool(Kind):
    token, api, autoname, seconds = POOL, "container.googleapis.com", 40, 0.02
    replaces = frozenset(
        {"name", "namePrefix", "cluster", "location", "project", "initialNodeCount", "maxPodsPerNode"}
        | {"placementPolicy", "queuedProvisioning", "networkConfig.podRange", "networkConfig.createPodRange"}
        | {f"nodeConfig.{name}" for name in nodes.REPLACES}
    )
    sets = frozenset({"nodeLocations", "nodeConfig.oauthScopes"})
    computed = ("nodeConfig.effectiveTaints",)
    rules = Rules(
        patterns={"name": r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?"},
        allowed={
            "autoscaling.locationPolicy": ("BALANCED", "ANY"),
            "upgradeSettings.strategy": ("SURGE", "BLUE_GREEN"),
            **{f"nodeConfig.{path}": values for path, values in nodes.ALLOWED.items()},
        },
        least={
            **{f"autoscaling.{name}": 0 for name in (*_PER_ZONE, *_TOTAL)},
            "upgradeSettings.maxSurge": 0,
            "upgradeSettings.maxUnavailable": 0,
            "nodeCount": 0,
            **{f"nodeConfig.{path}": least for path, least in nodes.LEAST.items()},
        },
        conflicts=(("name", "namePrefix"),),
    )
    local = MappingProxyType({"deletionPolicy": "DELETE", "ignoreNodeCountChanges": False})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        scaling = inputs.get("autoscaling", {})
        if any(scaling.get(name) for name in _PER_ZONE) and any(scaling.get(name) for name in _TOTAL):
            yield Finding("autoscaling", "limits are either per zone or total, not both")

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"{_cluster(inputs, where)}/nodePools/{inputs['name']}"

    def unit(self, identity: str) -> str:
        return identity.partition("/nodePools/")[0]

    def retries(self, refused: GoogleError) -> bool:
        """Return whether the cluster is only busy, or too many operations run."""
        return refused.reason == "failedPrecondition" or refused.code == 429

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        identity = self.identity(inputs, where)
        owner = _owner(state, identity)
        if state.find(POOL, identity) is not None:
            raise exists(identity)
        if owner.get("enableAutopilot"):
            raise GoogleError(400, "Autopilot clusters do not support mutating node pools.", "badRequest")
        busy(state, self.unit(identity))
        return super().create(state, inputs, where)

    def update(self, state: State, identity: str, inputs: Inputs, where: Where) -> None:
        _owner(state, identity)
        busy(state, self.unit(identity))
        super().update(state, identity, inputs, where)

    def delete(self, state: State, identity: str, last: Body) -> None:
        busy(state, self.unit(identity))
        super().delete(state, identity, last)

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        owner = _owner(state, self.identity(inputs, where))
        for fault in _faults(inputs, owner):
            raise GoogleError(400, fault, "badRequest")
        nodes.admit(state, inputs.get("nodeConfig", {}))

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        identity = self.identity(inputs, where)
        owner = _owner(state, identity)
        scaling = inputs.get("autoscaling", {})
        count = inputs.get(
            "nodeCount", inputs.get("initialNodeCount", scaling.get("minNodeCount", 0) if scaling else 1)
        )
        zones = inputs.get("nodeLocations") or owner["~zones"]
        groups = [
            f"https://www.googleapis.com/compute/v1/projects/{identity.split('/')[1]}/zones/{zone}"
            for zone in zones
        ]
        made = old or {
            "instanceGroupUrls": [
                f"{one}/instanceGroupManagers/gke-{state.number():08x}-grp" for one in groups
            ]
        }
        cpu = [
            one
            for name, one in state.all(POOL).items()
            if self.unit(name) == self.unit(identity) and name != identity
        ]
        return {
            "project": identity.split("/")[1],
            "location": identity.split("/")[3],
            "version": versions.resolve(inputs["version"]) if inputs.get("version") else _version(owner, old),
            "nodeLocations": zones,
            "nodeCount": count,
            "initialNodeCount": inputs.get("initialNodeCount", count),
            "maxPodsPerNode": inputs.get("maxPodsPerNode", 110),
            "management": {"autoRepair": True, "autoUpgrade": True} | inputs.get("management", {}),
            "upgradeSettings": {"strategy": "SURGE", "maxSurge": 1, "maxUnavailable": 0}
            | inputs.get("upgradeSettings", {}),
            "instanceGroupUrls": made["instanceGroupUrls"],
            "managedInstanceGroupUrls": [one.replace("Managers", "s") for one in made["instanceGroupUrls"]],
            "nodeConfig": nodes.completed(
                inputs.get("nodeConfig", {}),
                beside_cpu_nodes=any(not nodes.has_gpu(one["nodeConfig"]) for one in cpu),
            ),
        }

    def view(self, state: State, body: Body) -> Body:
        return super().view(state, body) | {"operation": ""}


def _cluster(inputs: Inputs, where: Where) -> str:
    given = inputs["cluster"]
    if "/" in given:
        return relative(given)
    location = inputs.get("location") or where.zone or where.region
    return f"projects/{inputs.get('project', where.project)}/locations/{location}/clusters/{given}"


def _owner(state: State, identity: str) -> Body:
    name = identity.partition("/nodePools/")[0]
    owner = state.find(CLUSTER, name)
    if owner is None or owner.get(STATUS) == "STOPPING":
        raise missing(name)
    return owner


def _version(owner: Body, old: Body | None) -> str:
    return str(old["version"] if old else owner["masterVersion"])


def _faults(inputs: Inputs, owner: Body) -> Iterator[str]:
    yield from _scaling_faults(inputs)
    place = region_of(owner["location"])
    for zone in inputs.get("nodeLocations", ()):
        if not is_zone(zone) or region_of(zone) != place:
            yield f'Location "{zone}" is not a zone of {place}, where the cluster is'
    channel = get(owner, "releaseChannel.channel", "UNSPECIFIED")
    management = {"autoRepair": True, "autoUpgrade": True} | inputs.get("management", {})
    if channel != "UNSPECIFIED":
        for key, label in (("autoUpgrade", "Auto_upgrade"), ("autoRepair", "Auto_repair")):
            if not management[key]:
                yield f"{label} must be true when release channel {channel} is set."
    surge = {"maxSurge": 1, "maxUnavailable": 0} | inputs.get("upgradeSettings", {})
    if (
        surge.get("strategy", "SURGE") == "SURGE"
        and not 1 <= surge["maxSurge"] + surge["maxUnavailable"] <= 20
    ):
        yield "upgradeSettings: maxSurge and maxUnavailable must be 1 to 20 together"
    if inputs.get("version"):
        asked, master = versions.resolve(inputs["version"]), owner["masterVersion"]
        if versions.order(asked) > versions.order(master):
            yield f'Node version "{asked}" must not be later than the control plane\'s, "{master}"'
        if versions.minor(master) - versions.minor(asked) > 3:
            yield f'Node version "{asked}" is more than three minor versions behind "{master}"'


def _scaling_faults(inputs: Inputs) -> Iterator[str]:
    scaling: dict[str, Any] = inputs.get("autoscaling") or {}
    if not scaling:
        return
    low, high = _TOTAL if any(name in scaling for name in _TOTAL) else _PER_ZONE
    least, most = scaling.get(low, 0), scaling.get(high, 0)
    if most < 1:
        yield f"autoscaling.{high} must be at least 1"
    if least > most:
        yield f"autoscaling.{low} ({least}) is greater than autoscaling.{high} ({most})"
    if most > _MOST:
        yield f"autoscaling.{high} ({most}) is greater than {_MOST}"
    if "nodeCount" not in inputs and (first := inputs.get("initialNodeCount")) is not None and first > most:
        yield f"initialNodeCount ({first}) is greater than autoscaling.{high} ({most})"

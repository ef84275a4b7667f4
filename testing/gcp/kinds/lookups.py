"""Lookups: what a program can ask Google without making anything."""

from collections.abc import Callable
from typing import Any

from testing.gcp.cloud import GoogleError, State
from testing.gcp.kinds import versions
from testing.gcp.kinds.base import Inputs, missing
from testing.gcp.kinds.cluster import CLUSTER, Cluster
from testing.gcp.kinds.places import Where, is_region, is_zone

Lookup = Callable[[State, Inputs, Where], dict[str, Any]]
_NUMBER = "123456789012"


def project(state: State, inputs: Inputs, where: Where) -> dict[str, Any]:
    """Return the project."""
    name = inputs.get("projectId", where.project)
    return {"id": f"projects/{name}", "projectId": name, "name": name, "number": _NUMBER}


def client_config(state: State, inputs: Inputs, where: Where) -> dict[str, Any]:
    """Return what the provider was configured with; the token is none of anybody's."""
    place = {"project": where.project, "region": where.region or "", "zone": where.zone or ""}
    return {"id": "client", "accessToken": "no-token", "defaultLabels": where.labels, **place}


def engine_versions(state: State, inputs: Inputs, where: Where) -> dict[str, Any]:
    """Return the versions of Kubernetes that a location has, newest first."""
    location = inputs.get("location") or where.zone or where.region or ""
    if not is_region(location) and not is_zone(location):
        raise GoogleError(400, f'Location "{location}" does not exist.', "badRequest")
    offered = [
        one for one in reversed(versions.OFFERED.values()) if one.startswith(inputs.get("versionPrefix", ""))
    ]
    if not offered:
        raise GoogleError(400, f"No version begins with {inputs['versionPrefix']}", "badRequest")
    defaults = {channel: versions.OFFERED[name] for channel, name in versions.DEFAULTS.items()}
    return {
        "id": f"{location}/{where.project}",
        "defaultClusterVersion": defaults["REGULAR"],
        "latestMasterVersion": offered[0],
        "latestNodeVersion": offered[0],
        "validMasterVersions": offered,
        "validNodeVersions": offered,
        "releaseChannelDefaultVersion": defaults,
        "releaseChannelLatestVersion": defaults,
    }


def cluster(state: State, inputs: Inputs, where: Where) -> dict[str, Any]:
    """Return a cluster. Raises GoogleError where it does not exist."""
    kind = Cluster()
    identity = kind.identity(inputs, where)
    body = state.find(CLUSTER, identity)
    if body is None:
        raise missing(identity)
    return {"id": identity, **kind.view(state, body)}


LOOKUPS: dict[str, Lookup] = {
    "gcp:organizations/getProject:getProject": project,
    "gcp:organizations/getClientConfig:getClientConfig": client_config,
    "gcp:container/getEngineVersions:getEngineVersions": engine_versions,
    "gcp:container/getCluster:getCluster": cluster,
}

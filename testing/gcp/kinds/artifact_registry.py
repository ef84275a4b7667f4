"""Artifact Registry: repositories of images and packages."""

from types import MappingProxyType

from testing.gcp.cloud import Body, GoogleError, State
from testing.gcp.kinds.base import RFC1035, Inputs, Kind, Rules
from testing.gcp.kinds.places import Where, is_region

_FORMATS = ("DOCKER", "MAVEN", "NPM", "APT", "YUM", "PYTHON", "KFP", "GO", "GENERIC")


class Repository(Kind):
    token, api, labels = (
        "gcp:artifactregistry/repository:Repository",
        "artifactregistry.googleapis.com",
        "labels",
    )
    replaces = frozenset(
        {"format", "repositoryId", "kmsKeyName", "location", "mode", "project", "remoteRepositoryConfig"}
    )
    sets = frozenset({"cleanupPolicies"})
    rules = Rules(
        patterns={"repositoryId": RFC1035},
        allowed={"mode": ("STANDARD_REPOSITORY", "VIRTUAL_REPOSITORY", "REMOTE_REPOSITORY")},
        conflicts=(("remoteRepositoryConfig", "virtualRepositoryConfig"),),
    )
    local = MappingProxyType({"deletionPolicy": "DELETE"})

    def identity(self, inputs: Inputs, where: Where) -> str:
        location = inputs.get("location") or where.region
        return f"projects/{inputs.get('project', where.project)}/locations/{location}/repositories/{inputs['repositoryId']}"

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        if inputs["format"].upper() not in _FORMATS:
            raise GoogleError(
                400, f'Format "{inputs["format"]}" is not one of {", ".join(_FORMATS)}', "badRequest"
            )
        location = self.identity(inputs, where).split("/")[3]
        if not is_region(location) and location not in {"us", "europe", "asia"}:
            raise GoogleError(
                400, f'Location "{location}" is neither a region nor us, europe or asia', "badRequest"
            )

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        _, project, _, location, _, name = self.identity(inputs, where).split("/")
        return {
            "project": project,
            "location": location,
            "name": name,
            "mode": inputs.get("mode", "STANDARD_REPOSITORY"),
            "createTime": "2026-01-01T00:00:00Z",
            "updateTime": "2026-01-01T00:00:00Z",
            "registryUri": f"{location}-{inputs['format'].lower()}.pkg.dev/{project}/{name}",
        }

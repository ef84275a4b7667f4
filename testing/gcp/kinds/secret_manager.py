"""Secret Manager: secrets, and their versions, whose numbers never come back."""

from collections.abc import Iterator
from types import MappingProxyType

from testing.gcp.cloud import Body, Cloud, GoogleError, State
from testing.gcp.faults import Effect
from testing.gcp.kinds.base import Done, Inputs, Kind, Rules, missing
from testing.gcp.kinds.places import Where, relative
from testing.gcp.schema import Finding

SECRET = "gcp:secretmanager/secret:Secret"
VERSION = "gcp:secretmanager/secretVersion:SecretVersion"
_API = "secretmanager.googleapis.com"
_MOST_BYTES = 64 * 1024


class Secret(Kind):
    token, api, labels = SECRET, _API, "labels"
    replaces = frozenset({"secretId", "project", "replication", "tags"})
    rules = Rules(
        patterns={"secretId": r"[a-zA-Z0-9_-]{1,255}"},
        conflicts=(("expireTime", "ttl"),),
    )
    local = MappingProxyType({"deletionProtection": False, "deletionPolicy": "DELETE"})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        replication = inputs.get("replication")
        if replication is not None and len({"auto", "userManaged"} & set(replication)) != 1:
            yield Finding("replication", "one of auto and userManaged must be given")

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"projects/{inputs.get('project', where.project)}/secrets/{inputs['secretId']}"

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        return {
            "project": inputs.get("project", where.project),
            "name": self.identity(inputs, where),
            "createTime": "2026-01-01T00:00:00Z",
            "effectiveAnnotations": inputs.get("annotations", {}),
            "~versions": old["~versions"] if old else 0,
        }


class SecretVersion(Kind):
    """A secret's content. Google can be asked for it again until the version is disabled or destroyed."""

    token, api = VERSION, _API
    replaces = frozenset({"secret", "secretData", "secretDataWoVersion", "project", "isSecretDataBase64"})
    secrets = ("secretData",)
    rules = Rules(
        allowed={"deletionPolicy": ("DELETE", "DISABLE", "ABANDON", "PREVENT")},
        conflicts=(("secretData", "secretDataWo"),),
    )
    local = MappingProxyType({"deletionPolicy": "DELETE", "isSecretDataBase64": False})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        if len(inputs.get("secretData", "").encode()) > _MOST_BYTES:
            yield Finding("secretData", f"expected at most {_MOST_BYTES} bytes")

    def identity(self, inputs: Inputs, where: Where) -> str:
        raise NotImplementedError("Google numbers the versions")

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        self.needs_api(state)
        given = inputs["secret"]
        owner = relative(given) if "/" in given else f"projects/{where.project}/secrets/{given}"
        secret = state.find(SECRET, owner)
        if secret is None:
            raise missing(owner)
        secret["~versions"] += 1
        identity = f"{owner}/versions/{secret['~versions']}"
        state.put(VERSION, identity, self._whole(state, inputs, where, None) | _told(identity, owner))
        return identity

    def update(self, state: State, identity: str, inputs: Inputs, where: Where) -> None:
        old = state.find(VERSION, identity)
        if old is None:
            raise missing(identity)
        old["enabled"] = inputs.get("enabled", True)

    def view(self, state: State, body: Body) -> Body:
        found = super().view(state, body)
        return (
            found if body["enabled"] else {key: value for key, value in found.items() if key != "secretData"}
        )

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        return {
            "enabled": inputs.get("enabled", True),
            "createTime": "2026-01-01T00:00:00Z",
            "destroyTime": "",
        }

    def perform_delete(self, cloud: Cloud, identity: str, last: Body, effect: Effect) -> Done:
        """Destroy the version, or with the policy DISABLE keep it and answer nobody with it."""
        if last.get("deletionPolicy") != "DISABLE":
            return super().perform_delete(cloud, identity, last, effect)
        with cloud.transaction() as state:
            state.all(VERSION)[identity]["enabled"] = False
        return identity, None


def access(state: State, version: str) -> str:
    """Return the content of a version, as a workload gets it. Raises GoogleError."""
    body = state.find(VERSION, version)
    if body is None:
        raise missing(version)
    if not body["enabled"]:
        raise GoogleError(400, f"Secret Version [{version}] is in DISABLED state.", "failedPrecondition")
    return str(body["secretData"])


def _told(identity: str, owner: str) -> Body:
    return {"name": identity, "version": identity.rpartition("/")[2], "secret": owner}

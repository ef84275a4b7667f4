"""Who may do what: enabled APIs, service accounts, and the project's IAM policy with its etag."""

import re
import time
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from testing.gcp import faults
from testing.gcp.cloud import Body, Cloud, GoogleError, State
from testing.gcp.faults import Effect
from testing.gcp.kinds.base import Done, Inputs, Kind, Rules, exists
from testing.gcp.kinds.places import Where
from testing.gcp.schema import Finding

SERVICE = "gcp:projects/service:Service"
ACCOUNT = "gcp:serviceaccount/account:Account"
MEMBER = "gcp:projects/iAMMember:IAMMember"
# Enabling GKE enables what it is made of.
_WITH = {
    "container.googleapis.com": (
        "compute.googleapis.com",
        "iam.googleapis.com",
        "artifactregistry.googleapis.com",
    )
}
_PRINCIPALS = ("user", "group", "domain", "serviceAccount", "principal", "principalSet")
_TRIES = 10


class Service(Kind):
    """An API of Google's that a project may use. Enabling it twice is the same as once."""

    token = SERVICE
    replaces = frozenset({"service", "project"})
    rules = Rules(
        patterns={"service": r"[a-z0-9-]+(\.[a-z0-9-]+)*\.googleapis\.com"},
    )
    local = MappingProxyType(
        {
            "disableOnDestroy": False,
            "disableDependentServices": False,
            "checkIfServiceHasUsageOnDestroy": False,
            "deletionPolicy": "DELETE",
        }
    )

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"{inputs.get('project', where.project)}/{inputs['service']}"

    def find(self, state: State, identity: str) -> Body | None:
        project, service = identity.split("/")
        return {"project": project, "service": service} if service in state.document["services"] else None

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        enabled = state.document["services"]
        wanted = (inputs["service"], *_WITH.get(inputs["service"], ()))
        enabled.extend(one for one in wanted if one not in enabled)
        return self.identity(inputs, where)

    def update(self, state: State, identity: str, inputs: Inputs, where: Where) -> None:
        """Do nothing at Google: only what the provider keeps to itself can change."""

    def delete(self, state: State, identity: str, last: Body) -> None:
        service = identity.split("/")[1]
        if last.get("disableOnDestroy") and service in state.document["services"]:
            state.document["services"].remove(service)


class Account(Kind):
    token, api = ACCOUNT, None
    replaces = frozenset({"accountId", "project"})
    rules = Rules(
        patterns={"accountId": r"[a-z]([-a-z0-9]{4,28}[a-z0-9])"},
    )
    local = MappingProxyType({"createIgnoreAlreadyExists": None, "deletionPolicy": "DELETE"})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        for name, most in (("displayName", 100), ("description", 256)):
            if len(inputs.get(name, "")) > most:
                yield Finding(name, f"expected at most {most} characters")

    def identity(self, inputs: Inputs, where: Where) -> str:
        project = inputs.get("project", where.project)
        return f"projects/{project}/serviceAccounts/{email(inputs['accountId'], project)}"

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        identity = self.identity(inputs, where)
        if state.find(ACCOUNT, identity) is not None:
            if inputs.get("createIgnoreAlreadyExists"):
                return identity
            raise exists(identity)
        return super().create(state, inputs, where)

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        project = inputs.get("project", where.project)
        address = email(inputs["accountId"], project)
        return {
            "project": project,
            "email": address,
            "member": f"serviceAccount:{address}",
            "name": self.identity(inputs, where),
            "uniqueId": old["uniqueId"] if old else str(10**20 + state.number()),
            "disabled": inputs.get("disabled", False),
        }

    def delete(self, state: State, identity: str, last: Body) -> None:
        """Remove the account; what was granted to it stays in the policy, under a name that nobody has."""
        body = state.find(ACCOUNT, identity)
        if body is not None:
            for policy in state.document["policies"].values():
                for members in policy["bindings"].values():
                    if body["member"] in members:
                        members.remove(body["member"])
                        members.append(f"deleted:{body['member']}?uid={body['uniqueId']}")
        super().delete(state, identity, last)


def email(account: str, project: str) -> str:
    """Return the address of a service account."""
    return f"{account}@{project}.iam.gserviceaccount.com"


def needs_account(state: State, address: str) -> None:
    """Raise GoogleError for a service account of our project that does not exist."""
    found = re.fullmatch(r"[^@]+@(?P<project>[^.]+)\.iam\.gserviceaccount\.com", address)
    if found and state.find(ACCOUNT, f"projects/{found['project']}/serviceAccounts/{address}") is None:
        raise GoogleError(400, f"Service account {address} does not exist.", "badRequest")


def policy_of(state: State, project: str) -> dict[str, Any]:
    """Return a copy of a project's IAM policy: its bindings, and the etag that a change must name."""
    policy = state.document["policies"].get(project, {"etag": "BwX0", "bindings": {}})
    return {
        "etag": policy["etag"],
        "bindings": {role: list(members) for role, members in policy["bindings"].items()},
    }


def set_policy(state: State, project: str, policy: dict[str, Any]) -> None:
    """Replace a project's policy. Raises GoogleError where it has changed since it was read."""
    if policy["etag"] != policy_of(state, project)["etag"]:
        message = "There were concurrent policy changes. Read the policy again, change it and set it again."
        raise GoogleError(409, message, "aborted")
    kept = {role: members for role, members in policy["bindings"].items() if members}
    state.document["policies"][project] = {"etag": f"BwX{state.number()}", "bindings": kept}


class IAMMember(Kind):
    """One member of one role in the project's policy, which is read, changed and set again as a whole."""

    token = MEMBER
    replaces = frozenset({"project", "role", "member", "condition"})
    rules = Rules(
        patterns={"role": r"(roles/|projects/[^/]+/roles/|organizations/[^/]+/roles/)[a-zA-Z0-9_.]+"},
    )

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        member = inputs.get("member", "user:x")
        if member.partition(":")[0] not in _PRINCIPALS or ":" not in member:
            yield Finding("member", f"expected one of {', '.join(_PRINCIPALS)} and a colon, not {member!r}")

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"{inputs['project']}/{inputs['role']}/{inputs['member']}"

    def find(self, state: State, identity: str) -> Body | None:
        project, role, member = _parts(identity)
        policy = policy_of(state, project)
        if member not in policy["bindings"].get(role, ()):
            return None
        return {"project": project, "role": role, "member": member, "etag": policy["etag"]}

    def perform_create(self, cloud: Cloud, inputs: Inputs, where: Where, effect: Effect) -> Done:
        with cloud.transaction() as state:
            if inputs["member"].startswith("serviceAccount:"):
                needs_account(state, inputs["member"].partition(":")[2])
        _change(cloud, inputs["project"], inputs["role"], inputs["member"], there=True)
        return self.identity(inputs, where), None

    def perform_delete(self, cloud: Cloud, identity: str, last: Body, effect: Effect) -> Done:
        project, role, member = _parts(identity)
        _change(cloud, project, role, member, there=False)
        return identity, None


def _parts(identity: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"([^/]+)/((?:(?:projects|organizations)/[^/]+/)?roles/[^/]+)/(.+)", identity)
    if found is None:
        raise GoogleError(400, f"{identity} is not PROJECT/ROLE/MEMBER", "invalid")
    return found[1], found[2], found[3]


def _change(cloud: Cloud, project: str, role: str, member: str, *, there: bool) -> None:
    """Add or remove a member, again from the start whenever another change came between. Raises GoogleError."""
    for attempt in range(_TRIES):
        with cloud.transaction() as state:
            policy = policy_of(state, project)
        members = [one for one in policy["bindings"].get(role, ()) if one != member]
        policy["bindings"][role] = [*members, member] if there else members
        found = faults.effect(cloud, "SetIamPolicy", MEMBER, role)
        found.wait(cloud, "call", 300)
        try:
            if found.refuse:
                raise found.refuse
            with cloud.transaction() as state:
                set_policy(state, project, policy)
            cloud.note("SetIamPolicy", MEMBER, role)
            return
        except GoogleError as refused:
            cloud.note("SetIamPolicy", MEMBER, role, refused.code, refused.reason)
            if refused.code != 409 or attempt == _TRIES - 1:
                raise
            time.sleep(0.01 * 2**attempt)

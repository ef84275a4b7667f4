"""Google for tests: the double on disk, or a user's own project where ``ASSIST_REAL_GCP=1`` says so."""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from testing import tools
from testing.gcp.cloud import VARIABLE, Body, Cloud, GoogleError, State
from testing.gcp.kinds import KINDS
from testing.gcp.kinds.cluster import POOL
from testing.gcp.kinds.identity import ACCOUNT
from testing.gcp.kinds.places import relative

PROJECT = "demo-project"
TOKEN = "canary-oauth-token-7c1f"
BIN = Path(__file__).parent / "bin"
# The provider's name on PATH is what the engine looks for.
PLUGIN = "pulumi-resource-gcp"
# How long GKE may take where it is the real one.
_REAL_LIMIT_S = 3 * 3600


class Google(Protocol):
    """What tests ask of Google, whichever it is."""

    project: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which Pulumi reaches it."""

    def exists(self, link: str) -> bool:
        """Return whether there is something at Google's address."""

    def pools(self, cluster: str, location: str) -> list[str]:
        """Return the names of a cluster's node pools, sorted."""

    def delete_pool(self, cluster: str, location: str, name: str) -> None:
        """Delete a node pool as a person does, and return when it is gone."""

    def has_account(self, name: str) -> bool:
        """Return whether the project has a service account."""

    def bindings(self) -> str:
        """Return the project's IAM policy as text."""


def is_real() -> bool:
    """Return whether the tests were told to use a user's own project."""
    return os.environ.get("ASSIST_REAL_GCP") == "1"


def limit_s(seconds: int) -> int:
    """Return a time limit: so many seconds with the double, hours with Google itself."""
    return _REAL_LIMIT_S if is_real() else seconds


def missing() -> str | None:
    """Return what the tests lack, and how it gets there; None where all is there."""
    wanted = ("pulumi", PLUGIN) if is_real() else ("pulumi",)
    return tools.missing(*wanted)


def plugin() -> Path:
    """Return the provider that the tests use. Raises FileNotFoundError where the real one is wanted and absent."""
    if not is_real():
        return BIN / PLUGIN
    found = shutil.which(PLUGIN, path=tools.search_path())
    if found is None:
        raise FileNotFoundError(f"{PLUGIN} is not on PATH; install it: pulumi plugin install resource gcp")
    return Path(found)


def on_path(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables by which Pulumi finds the double, with its cloud in ``folder``; none for Google itself."""
    if is_real():
        return {}
    return {
        "PATH": os.pathsep.join([str(BIN), environment.get("PATH", os.defpath)]),
        "ASSIST_GCP_PYTHON": sys.executable,
        VARIABLE: str(folder),
        "GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN,
    }


@dataclass
class Double:
    """The double, with its cloud in a folder. Nothing runs: the engine starts the provider for each command."""

    folder: Path
    project: str = PROJECT
    token: str = TOKEN
    cloud: Cloud = field(init=False)

    def __post_init__(self) -> None:
        self.cloud = Cloud(self.folder / "google")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which Pulumi reaches the double."""
        theirs = tools.environment()
        return theirs | on_path(theirs, self.cloud.folder)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return each call so far: method, type, name in the program, status and reason."""
        return self.cloud.calls()

    def exists(self, link: str) -> bool:
        """Return whether there is something at Google's address."""
        wanted = _place(link)
        with self.cloud.transaction() as state:
            known = [one for kind in KINDS for one in state.all(kind).values()]
            return any(_place(one.get("selfLink", "")) == wanted for one in known)

    def pools(self, cluster: str, location: str) -> list[str]:
        """Return the names of a cluster's node pools, sorted."""
        owner = f"projects/{self.project}/locations/{location}/clusters/{cluster}/"
        with self.cloud.transaction() as state:
            return sorted(one["name"] for name, one in state.all(POOL).items() if name.startswith(owner))

    def delete_pool(self, cluster: str, location: str, name: str) -> None:
        """Delete a node pool as a person does."""
        self._delete(
            POOL, f"projects/{self.project}/locations/{location}/clusters/{cluster}/nodePools/{name}"
        )

    def has_account(self, name: str) -> bool:
        """Return whether the project has a service account."""
        with self.cloud.transaction() as state:
            return any(one["accountId"] == name for one in state.all(ACCOUNT).values())

    def bindings(self) -> str:
        """Return the project's IAM policy as text."""
        with self.cloud.transaction() as state:
            return str(state.document["policies"].get(self.project, {}))

    def remove(self, title: str, name: str) -> list[str]:
        """Delete what has a name, or begins with it and a suffix of Pulumi's; return the ids.

        ``title``: the type's class, such as ``NodePool``. APIs and grants stay: doing them twice changes nothing.
        """
        (kind,) = [token for token in KINDS if token.endswith(f":{title}")]
        with self.cloud.transaction() as state:
            found = [one for one, body in state.all(kind).items() if _named(body, name)]
        for identity in found:
            self._delete(kind, identity)
        return found

    def _delete(self, kind: str, identity: str) -> None:
        """Delete one thing, waiting while its cluster is busy. Raises GoogleError for what is in use, KeyError for nothing."""
        deadline = time.monotonic() + 30
        while True:
            with self.cloud.transaction() as state:
                try:
                    self._delete_now(state, kind, identity)
                    return
                except GoogleError as refused:
                    if refused.reason != "failedPrecondition" or time.monotonic() > deadline:
                        raise
            time.sleep(0.02)

    def _delete_now(self, state: State, kind: str, identity: str) -> None:
        body = state.all(kind)[identity]
        KINDS[kind].delete(state, identity, body)
        state.remove(kind, identity)


def _named(body: Body, name: str) -> bool:
    given = str(body.get("name", ""))
    return (
        name == body.get("accountId")
        or given == name
        or (given.startswith(f"{name}-") and len(given) == len(name) + 8)
    )


def _place(link: str) -> str:
    """Return what an address is about: GKE's current API has ``locations`` where the older had zones and regions."""
    return relative(link).replace("/zones/", "/locations/").replace("/regions/", "/locations/")

"""A user's own project, asked by Google's APIs. Only where ``ASSIST_REAL_GCP=1``: what the tests make there costs."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from testing import tools

_IAM = "https://iam.googleapis.com/v1/projects"
_RESOURCES = "https://cloudresourcemanager.googleapis.com/v1/projects"
_CONTAINER = "https://container.googleapis.com/v1/projects"
_PATIENCE_S = 1800.0
_REST_S = 5.0


class UnusableError(Exception):
    """The project cannot be used; the message says what to set."""


@dataclass
class RealGoogle:
    """One project. ``client``: what the calls go through; ``rest_s``: seconds between two looks."""

    project: str
    token: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))
    rest_s: float = _REST_S

    @classmethod
    def of_environment(cls) -> "RealGoogle":
        """Return the project that ``GOOGLE_PROJECT`` names, with a token of gcloud's. Raises UnusableError."""
        project = os.environ.get("GOOGLE_PROJECT")
        if not project:
            raise UnusableError("GOOGLE_PROJECT is not set; export GOOGLE_PROJECT=YOUR-PROJECT-ID")
        token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") or _token()
        return cls(project, token)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which Pulumi reaches the project."""
        return tools.environment(GOOGLE_OAUTH_ACCESS_TOKEN=self.token)

    def exists(self, link: str) -> bool:
        """Return whether there is something at Google's address."""
        return (
            self._status(
                link.replace("/zones/", "/locations/") if "container.googleapis.com" in link else link
            )
            == 200
        )

    def pools(self, cluster: str, location: str) -> list[str]:
        """Return the names of a cluster's node pools, sorted."""
        answer = self._ask("GET", self._pools(cluster, location))
        return sorted(pool["name"] for pool in answer.json().get("nodePools", []))

    def delete_pool(self, cluster: str, location: str, name: str) -> None:
        """Delete a node pool, and return when it is gone. Raises TimeoutError after half an hour."""
        address = f"{self._pools(cluster, location)}/{name}"
        self._ask("DELETE", address).raise_for_status()
        deadline = time.monotonic() + _PATIENCE_S
        while self.exists(address):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is still there")
            time.sleep(self.rest_s)

    def has_account(self, name: str) -> bool:
        """Return whether the project has a service account."""
        address = f"{name}@{self.project}.iam.gserviceaccount.com"
        return self._status(f"{_IAM}/{self.project}/serviceAccounts/{address}") == 200

    def bindings(self) -> str:
        """Return the project's IAM policy as text."""
        return self._ask("POST", f"{_RESOURCES}/{self.project}:getIamPolicy").text

    def _pools(self, cluster: str, location: str) -> str:
        return f"{_CONTAINER}/{self.project}/locations/{location}/clusters/{cluster}/nodePools"

    def _status(self, address: str) -> int:
        status = self._ask("GET", address).status_code
        if status not in {200, 404}:
            raise UnusableError(f"{address}: Google answers {status}; is the token still good?")
        return status

    def _ask(self, method: str, address: str) -> httpx.Response:
        body: dict[str, Any] | None = {} if method == "POST" else None
        return self.client.request(
            method, address, json=body, headers={"Authorization": f"Bearer {self.token}"}
        )


def _token() -> str:
    command = ["gcloud", "auth", "application-default", "print-access-token"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise UnusableError("no token of Google's; run: gcloud auth application-default login") from error

"""Google's REST APIs, read only: a project's state, quotas and offers."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

TIMEOUT_S = 15.0
LOGIN = "gcloud auth application-default login"


class GoogleError(Exception):
    """A request failed: ``status`` is the HTTP status, or None without a response."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status


class Google:
    """Google's APIs for one project. ``http`` may replay recorded responses."""

    def __init__(self, project: str, http: httpx.Client) -> None:
        self.project = project
        self._http = http
        self._documents: dict[str, dict[str, Any]] = {}

    def get(self, address: str) -> dict[str, Any]:
        """Return a document, requested once. ``address`` may contain ``{project}``. Raises GoogleError."""
        url = "https://" + address.format(project=self.project)
        if url not in self._documents:
            self._documents[url] = self._request(url)
        return self._documents[url]

    def items(self, address: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield every entry of a list, page after page. Raises GoogleError."""
        page, joint = self.get(address), "&" if "?" in address else "?"
        yield from page.get(key, ())
        while token := page.get("nextPageToken"):
            page = self.get(f"{address}{joint}pageToken={token}")
            yield from page.get(key, ())

    def _request(self, url: str) -> dict[str, Any]:
        try:
            response = self._http.get(url)
            document = response.json()
        except httpx.HTTPError as error:
            raise GoogleError(None, f"no response from {httpx.URL(url).host}: {error}") from error
        except ValueError:
            raise GoogleError(None, f"the response of {httpx.URL(url).host} is not JSON") from None
        if response.is_success and isinstance(document, dict):
            return document
        fault = document.get("error", {}) if isinstance(document, dict) else {}
        raise GoogleError(response.status_code, str(fault.get("message") or response.reason_phrase))


def live() -> httpx.Client:
    """Return a client with the user's credentials; without credentials, Google responds 401."""
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") or _gcloud_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(timeout=TIMEOUT_S, headers=headers)


def recorded(file: Path) -> httpx.Client:
    """Return a client that replays ``file``: a JSON object of URL to ``{"status", "body"}``.

    A request that was not recorded gets no response, so that its check is unknown. Raises ``ValueError`` for
    a file of another form.
    """
    responses = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(responses, dict):
        raise ValueError(f"{file} is not a JSON object of URL to response; record the file again")

    def replay(request: httpx.Request) -> httpx.Response:
        response = responses.get(str(request.url))
        if response is None:
            raise httpx.ConnectError("not recorded", request=request)
        return httpx.Response(response.get("status", 200), json=response["body"])

    return httpx.Client(transport=httpx.MockTransport(replay))


def _gcloud_token() -> str | None:
    if shutil.which("gcloud") is None:
        return None
    command = ["gcloud", "auth", "application-default", "print-access-token"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() or None

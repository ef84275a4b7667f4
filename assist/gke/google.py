"""Google's REST APIs, read only: what a project has, may do and is offered. Nothing here changes anything."""

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
    """A refused or failed request: ``status`` is HTTP's, or None where no answer came."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status


class Google:
    """One project's view of Google. ``http`` may replay recorded answers instead of asking."""

    def __init__(self, project: str, http: httpx.Client) -> None:
        self.project = project
        self._http = http
        self._known: dict[str, dict[str, Any]] = {}

    def get(self, address: str) -> dict[str, Any]:
        """Return a document, asked for once. ``address`` may hold ``{project}``. Raises GoogleError."""
        url = "https://" + address.format(project=self.project)
        if url not in self._known:
            self._known[url] = self._ask(url)
        return self._known[url]

    def items(self, address: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield every entry of a list, page after page. Raises GoogleError."""
        page, joint = self.get(address), "&" if "?" in address else "?"
        yield from page.get(key, ())
        while token := page.get("nextPageToken"):
            page = self.get(f"{address}{joint}pageToken={token}")
            yield from page.get(key, ())

    def _ask(self, url: str) -> dict[str, Any]:
        try:
            answer = self._http.get(url)
            document = answer.json()
        except httpx.HTTPError as error:
            raise GoogleError(None, f"no answer from {httpx.URL(url).host}: {error}") from error
        except ValueError:
            raise GoogleError(None, f"{httpx.URL(url).host} did not answer with JSON") from None
        if answer.is_success and isinstance(document, dict):
            return document
        fault = document.get("error", {}) if isinstance(document, dict) else {}
        raise GoogleError(answer.status_code, str(fault.get("message") or answer.reason_phrase))


def live() -> httpx.Client:
    """Return a client with the caller's own credentials; without any, Google answers 401."""
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") or _gcloud_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(timeout=TIMEOUT_S, headers=headers)


def recorded(file: Path) -> httpx.Client:
    """Return a client that answers from ``file``: a JSON object of URL to ``{"status", "body"}``.

    What was not recorded has no answer, so that nothing is concluded from it. Raises ``ValueError`` for a
    file that is no such object.
    """
    answers = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(answers, dict):
        raise ValueError(f"{file} is no JSON object of URL to answer; record it again")

    def replay(request: httpx.Request) -> httpx.Response:
        known = answers.get(str(request.url))
        if known is None:
            raise httpx.ConnectError("not recorded", request=request)
        return httpx.Response(known.get("status", 200), json=known["body"])

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

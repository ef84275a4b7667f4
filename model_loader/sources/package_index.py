"""Finds a wheel on a Python package index by the simple API, as HTML (PEP 503) or JSON (PEP 691)."""

import base64
import dataclasses
import json
import os
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from urllib3.exceptions import HTTPError

from model_loader.errors import SourceError, TransientError
from model_loader.sources.index_settings import IndexSettings, credentials
from model_loader.sources.protocols import HttpSource
from model_loader.sources.transport import HttpOptions, Transport, safe

MAX_PAGE = 32 * 1024 * 1024  # bytes: the largest projects of the public index have about 10 MiB
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that an index offers: its ``url``, and the ``files`` source that reads that address."""

    filename: str
    url: str
    files: HttpSource


def normalised(name: str) -> str:
    """Return a project's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


class PackageIndex:
    """One index; ``name`` is its address without credentials. Raises SourceError for an invalid address."""

    def __init__(self, address: str, options: HttpOptions, connections: int) -> None:
        base, login = credentials(address, os.environ)
        basic = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        self._transport = Transport(base, None, options, connections, authorize=lambda _url, _headers: basic)
        self._base = base.rstrip("/")
        self._files = HttpSource(base, self._transport)
        self.name = safe(self._base)

    def find(self, requirement: str, sha256: str) -> Wheel:
        """Return the wheel ``NAME==VERSION`` whose checksum is ``sha256``, or which has none in the index.

        Raises SourceError when the index lacks it or offers other bytes, TransientError when it fails.
        """
        name, _, version = requirement.partition("==")
        page = f"{self._base}/{normalised(name)}/"
        offered = [
            (url, digest) for url, digest in self._links(page, requirement) if _is_wheel(url, name, version)
        ]
        if not offered:
            raise SourceError(f"{self.name} has no wheel of {requirement}.")
        for url, digest in sorted(offered, key=lambda link: link[1] is None):
            if digest in (sha256, None):
                self._transport.check_link(page, url)
                return Wheel(_filename(url), url, self._files)
        raise SourceError(
            f"{self.name}: the wheel of {requirement} has sha256 {offered[0][1]}, expected {sha256}."
        )

    def _links(self, page: str, requirement: str) -> list[tuple[str, str | None]]:
        try:
            response = self._transport.get(page, {"Accept": ACCEPT})
        except SourceError as error:
            raise self._explained(error, requirement) from None
        try:
            text = response.read(MAX_PAGE + 1)
        except (HTTPError, OSError) as error:
            raise TransientError(f"{safe(page)}: connection lost ({type(error).__name__})") from None
        finally:
            response.close()
        if len(text) > MAX_PAGE:
            raise SourceError(f"{safe(page)}: the page exceeds {MAX_PAGE} bytes.")
        kind = response.headers.get("Content-Type", "").lower()
        try:
            links = _json_links(text) if "json" in kind else _html_links(text)
            return [(urldefrag(urljoin(page, url))[0], digest) for url, digest in links]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SourceError(
                f"{safe(page)}: this is no page of a package index; check its address."
            ) from None

    def _explained(self, error: SourceError, requirement: str) -> SourceError:
        if error.status in {404, 410}:
            return SourceError(f"{self.name} has no wheel of {requirement}.")
        if error.status in {401, 403}:
            return SourceError(
                f"{self.name}: access denied (HTTP status {error.status}); put user and password into the"
                " index's address (PIP_INDEX_URL) or into ~/.netrc."
            )
        return error


def _json_links(text: bytes) -> list[tuple[str, str | None]]:
    document: Any = json.loads(text)
    return [(str(row["url"]), (row.get("hashes") or {}).get("sha256")) for row in document["files"]]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "base" and href and not self.base:
            self.base = href
        elif tag == "a" and href:
            self.hrefs.append(href)


def _html_links(text: bytes) -> list[tuple[str, str | None]]:
    parser = _Links()
    parser.feed(text.decode())
    links = []
    for href in parser.hrefs:
        url, fragment = urldefrag(urljoin(parser.base, href))
        algorithm, _, digest = fragment.partition("=")
        links.append((url, digest if algorithm == "sha256" else None))
    return links


def _filename(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _is_wheel(url: str, name: str, version: str) -> bool:
    stem, dot, kind = _filename(url).rpartition(".")
    fields = stem.split("-")
    return (dot + kind, len(fields) >= 5, normalised(fields[0]), fields[1:2]) == (
        ".whl", True, normalised(name), [version],
    )  # fmt: skip


class PackageIndexes:
    """The configured indexes, asked in their order until one has the wheel.

    Raises SourceError for an invalid address.
    """

    def __init__(self, settings: IndexSettings, options: HttpOptions, connections: int) -> None:
        if options.ca is None and settings.ca is not None:
            options = dataclasses.replace(options, ca=settings.ca)
        self._indexes = [PackageIndex(address, options, connections) for address in settings.addresses]
        self.name = "package index " + ", ".join(index.name for index in self._indexes)

    def find(self, requirement: str, sha256: str) -> Wheel:
        """Return the wheel of the first index that offers the pinned bytes.

        Raises SourceError with every index's reason; TransientError when an index could not answer.
        """
        reasons: list[SourceError | TransientError] = []
        for index in self._indexes:
            try:
                return index.find(requirement, sha256)
            except (SourceError, TransientError) as error:
                reasons.append(error)
        said = " ".join(map(str, reasons))
        if unanswered := [error for error in reasons if isinstance(error, TransientError)]:
            raise TransientError(said, unanswered[0].retry_after)
        raise SourceError(said)

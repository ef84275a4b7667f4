"""The protocols ``Source`` and ``Body``, and the sources: hub, HTTP mirror, folder."""

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from model_loader.errors import RangesError, SourceError, TransientError
from model_loader.plan import WantedFile
from model_loader.sources.transport import Transport, safe

DEFAULT_ENDPOINT = "https://huggingface.co"
READ = 1024 * 1024
MAX_LISTING = 64 * 1024 * 1024  # bytes of one API response: about 200 000 files
_PULL_REQUEST = re.compile(r"^refs/pr/(\d{1,9})$")
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")


class Body(Protocol):
    """The bytes of one file from offset ``start``.

    Attributes:
        whole: the source sends the whole file, not the requested range.
        start: offset of the first byte.
        total: size of the whole file in bytes, or None if unknown.
        etag: strong validator of the file's version, or None if the source has none.

    """

    whole: bool
    start: int
    total: int | None
    etag: str | None

    def read(self) -> bytes:
        """Return the next bytes as they arrive; empty at the end.

        Raises TransientError when the connection fails, SourceError when a medium cannot be read.
        """

    def close(self) -> None:
        """Release the connection."""


class Source(Protocol):
    """A place with a model's files; ``name`` names it in messages and manifests."""

    name: str

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> Body:
        """Open bytes [start, end) of ``path``, or the whole file when ``end`` is None.

        ``etag`` is the version of the bytes that are present already, or None; where the file has another
        version now, a source may send it whole. Raises TransientError, RangesError or SourceError.
        """


@runtime_checkable
class Segmented(Protocol):
    """A source that cannot begin at every offset at the same cost."""

    def segment(self, path: str, usual: int) -> int:
        """Return the bytes of one request for ``path``, in place of ``usual``. Raises as ``Source.open``."""


class HttpBody:
    """The body of a 200 or 206 response."""

    def __init__(self, response: BaseHTTPResponse, url: str) -> None:
        """Take an unread response. Raises RangesError for a 206 without a usable Content-Range."""
        self._response = response
        self._host = safe(url)
        self.whole = response.status == 200
        self.etag = _strong_etag(response)
        self.start, self.total = _extent(response, url)

    def read(self) -> bytes:
        """Return up to 1 MiB as soon as any bytes arrive. Raises TransientError when the connection fails."""
        try:
            return self._response.read1(READ, decode_content=False)
        except (HTTPError, OSError) as error:
            raise TransientError(
                f"{self._host}: connection lost while reading ({type(error).__name__})"
            ) from None

    def close(self) -> None:
        """Return a connection that is read to its end to the pool; close any other immediately."""
        if self._response.length_remaining == 0:
            self._response.release_conn()
        else:
            with contextlib.suppress(OSError, HTTPError):
                self._response.close()


def _strong_etag(response: BaseHTTPResponse) -> str | None:
    etag = response.headers.get("ETag")
    # RFC 9110 §13.1.5: a weak validator must not be used in If-Range.
    return etag if etag and not etag.startswith("W/") else None


def _extent(response: BaseHTTPResponse, url: str) -> tuple[int, int | None]:
    if response.status == 206:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None:
            response.close()
            raise RangesError(f"{safe(url)}: 206 without a usable Content-Range")
        return int(match[1]), int(match[3])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


class HttpSource:
    """Files at ``<base>/<path>``, such as a mirror inside a network without internet access."""

    def __init__(self, base: str, transport: Transport) -> None:
        self._base = base.rstrip("/")
        self.name = safe(self._base)
        self.transport = transport

    def url(self, path: str) -> str:
        """Return the address of ``path``."""
        return f"{self._base}/{quote(path)}"

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> HttpBody:
        """Request a range, with If-Range once the version is known.

        Raises TransientError, RangesError, SourceError or RedirectError.
        """
        return self.open_url(self.url(path), start, end, etag)

    def open_url(self, url: str, start: int, end: int | None, etag: str | None) -> HttpBody:
        """Request a range of any address that the transport's policy allows. Raises as ``open``."""
        headers = {}
        if end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
            if etag:
                headers["If-Range"] = etag
        return HttpBody(self.transport.get(url, headers), url)

    def json(self, url: str) -> Any:  # noqa: ANN401  -- any JSON document may arrive here
        """Return a parsed API response. Raises SourceError when it is not JSON or exceeds 64 MiB."""
        response = self.transport.get(url)
        try:
            text = response.read(MAX_LISTING + 1)
        except (HTTPError, OSError) as error:
            raise TransientError(
                f"{safe(url)}: connection lost while reading ({type(error).__name__})"
            ) from None
        finally:
            response.close()
        if len(text) > MAX_LISTING:
            raise SourceError(f"{safe(url)}: the listing exceeds {MAX_LISTING} bytes.")
        try:
            return json.loads(text)
        except ValueError:
            raise SourceError(
                f"{safe(url)}: the response is not JSON; check that this is a Hugging Face endpoint."
            ) from None


class HubSource(HttpSource):
    """A Hugging Face hub or its mirror: ``<endpoint>/<repository>/resolve/<revision>/<path>``."""

    def __init__(self, endpoint: str, repository: str, revision: str, transport: Transport) -> None:
        root = endpoint.rstrip("/")
        self._model = f"{root}/api/models/{quote(repository)}"
        self._endpoint, self._repository = root, repository
        super().__init__(f"{root}/{quote(repository)}/resolve/{quote(revision, safe='')}", transport)
        self.name = f"{safe(root)}/{repository}"
        self._api = f"{self._model}/revision/{quote(revision, safe='')}?blobs=true"
        self._revision = revision

    def at(self, commit: str) -> "HubSource":
        """Return the source of the same repository at ``commit``."""
        return HubSource(self._endpoint, self._repository, commit, self.transport)

    def listing(self) -> tuple[str, dict[str, WantedFile]]:
        """Return the commit of the revision, and the hub's size and SHA-256 of each file (not authoritative).

        Raises SourceError when the response is invalid or is for another commit than requested.
        """
        document = self.json(self._api)
        try:
            commit = str(document["sha"])
            files = {row["rfilename"]: _hub_file(row) for row in document["siblings"]}
        except (KeyError, TypeError) as error:
            raise SourceError(f"{self.name}: the hub's response lacks {error}.") from None
        if re.fullmatch(r"[0-9a-f]{40}", self._revision) and commit != self._revision:
            raise SourceError(
                f"{self.name}: requested commit {self._revision}, but the hub returned commit {commit[:40]}."
            )
        return commit, files

    def card(self) -> object:
        """Return the head of the repository's card, as the hub parsed it, or None. Raises as ``listing``."""
        document = self.json(self._api)
        return document.get("cardData") if isinstance(document, dict) else None

    def pull_requests(self) -> list[str]:
        """Return the references of the repository's pull requests, newest first. Raises as ``listing``."""
        document = self.json(f"{self._model}/refs?include_prs=true")
        pulls = document.get("pullRequests") if isinstance(document, dict) else None
        names = [str(each.get("ref")) for each in pulls or () if isinstance(each, dict)]
        numbered = {int(match[1]): name for name in names if (match := _PULL_REQUEST.match(name))}
        return [numbered[number] for number in sorted(numbered, reverse=True)]


def _hub_file(row: dict[str, Any]) -> WantedFile:
    lfs = row.get("lfs") or {}
    size = lfs.get("size", row.get("size"))
    return WantedFile(row["rfilename"], size if isinstance(size, int) else None, lfs.get("sha256"))


@dataclass
class FileBody:
    """The bytes of a local file, or of one member of an uncompressed tar file."""

    descriptor: int
    start: int
    total: int | None
    etag: str | None
    position: int
    end: int
    whole: bool = False

    def read(self) -> bytes:
        """Return up to 1 MiB; empty at the end. Raises SourceError when the medium cannot be read."""
        try:
            data = os.pread(self.descriptor, min(READ, self.end - self.position), self.position)
        except OSError as error:
            raise SourceError(f"cannot read the source: {error.strerror}.") from error
        self.position += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class FolderSource:
    """A local folder or a mounted share. Raises SourceError when the folder does not exist."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"source folder {folder} does not exist.")
        self._folder = folder
        self.name = f"folder:{folder.name}"

    def open(self, path: str, start: int, end: int | None, etag: str | None) -> FileBody:  # noqa: ARG002  -- Source
        """Open a regular file. Raises SourceError when it is missing, a device or a pipe."""
        try:
            descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"{self.name}: {path}: {error.strerror}.") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise SourceError(f"{self.name}: {path} is not a regular file.")
        version = f'"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"'
        last = status.st_size if end is None else min(end, status.st_size)
        return FileBody(descriptor, start, status.st_size, version, start, last)

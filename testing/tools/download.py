"""Official releases: fetched over HTTPS, checked, unpacked. Standard library only."""

import hashlib
import http.client
import json
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from testing.tools.kits import Download, Image, Kit

CHUNK = 1 << 20
TIMEOUT_S = 30
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)

Say = Callable[[str], None]


class UnreachableError(Exception):
    """The server can't be reached, or does not have the file. Another source may have it."""


class MismatchError(Exception):
    """The content differs from what is pinned. None of it may be used, and no other source is tried."""


@contextmanager
def _open(url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(url)  # noqa: S310
    for name, value in headers.items():
        # Not sent on to where a registry redirects: storage that signs its own addresses refuses it.
        request.add_unredirected_header(name, value)
    try:
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        raise UnreachableError(f"{url}: {error}") from error
    with response:
        if urlsplit(url).scheme == "https" != urlsplit(response.geturl()).scheme:
            raise MismatchError(f"{url} leads to {response.geturl()}, which is not encrypted")
        yield response


@contextmanager
def _opened(url: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    try:
        with _open(url, headers or {}) as response:
            yield response
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{url}: {error.code} {error.reason}") from error


def is_reachable(url: str) -> bool:
    """Return whether the server of ``url`` answers at all, within 5 s."""
    parts = urlsplit(url)
    probe = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")  # noqa: S310
    try:
        urllib.request.build_opener().open(probe, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def fetch_kit(kit: Kit, target: Path, say: Say) -> None:
    """Put the kit's released files into ``target``.

    Raises:
        UnreachableError: Where a server can't be reached or lacks a file.
        MismatchError: Where a checksum differs.

    """
    for item in kit.downloads:
        _fetch_one(item, target, say)
    for image in kit.images:
        _fetch_image(image, target, say)


def _fetch_one(item: Download, target: Path, say: Say) -> None:
    archive = target.with_name("download")
    with _opened(item.url) as response, archive.open("wb") as file:
        got = _copy(response, file, item.url, say)
    if not item.tree_sha256:
        _require(item.url, got, item.sha256 or _published(item, say))
    if not item.members:
        program = target / (item.name or item.url.rpartition("/")[2])
        archive.rename(program)
        program.chmod(0o755)
        return
    with tarfile.open(archive) as packed:
        _extract(packed, dict(item.members), target)
    archive.unlink()
    if item.tree_sha256:
        ((_, folder),) = item.members
        _require(f"{item.url} ({folder})", tree_sha256(target / folder), item.tree_sha256)


def _copy(response: http.client.HTTPResponse, file: IO[bytes], url: str, say: Say) -> str:
    """Copy a body to its end and return its sha256; what is cut off is an error."""
    digest, done, reported = hashlib.sha256(), 0, time.monotonic()
    length = int(response.headers.get("Content-Length", "0"))
    say(f"downloading {url}" + (f" ({length / 1e6:.1f} MB)" if length else ""))
    try:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - reported > 5:
                say(f"  {done / 1e6:.0f} MB" + (f" of {length / 1e6:.0f} MB" if length else ""))
                reported = time.monotonic()
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url} broke off after {done} bytes: {error}") from error
    if length and done != length:
        raise UnreachableError(f"{url} broke off after {done} of {length} bytes")
    return digest.hexdigest()


def _published(item: Download, say: Say) -> str:
    """Return the sha256 that the project publishes beside the file."""
    if urlsplit(item.published).scheme != "https":
        raise MismatchError(
            f"{item.url} has no pinned checksum, and {item.published!r} is not read over HTTPS"
        )
    say(f"  no checksum is pinned: taking it from {item.published}")
    with _opened(item.published) as response:
        text = response.read(CHUNK).decode()
    name = item.url.rpartition("/")[2]
    for line in text.splitlines():
        words = line.split()
        if (
            words
            and re.fullmatch(r"[0-9a-f]{64}", words[0])
            and (len(words) == 1 or words[1].lstrip("*") == name)
        ):
            return words[0]
    raise MismatchError(f"{item.published} has no sha256 of {name}")


def _require(what: str, got: str, wanted: str) -> None:
    if got != wanted:
        raise MismatchError(f"{what} has the sha256 {got}, not {wanted}; nothing of it was kept")


def _extract(packed: tarfile.TarFile, members: dict[str, str], target: Path) -> set[str]:
    """Extract files by name, and folders whose name ends with a slash; return which were there."""
    found = set()
    for entry in packed:
        path = entry.name.removeprefix("./").removeprefix("/")
        for source, name in members.items():
            if path == source or (source.endswith("/") and path.startswith(source)):
                _write(packed, entry, target, name + path[len(source) :])
                found.add(source)
    return found


def _write(packed: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, name: str) -> None:
    if ".." in Path(name).parts:
        raise MismatchError(f"an archive has the path {entry.name}")
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if entry.isfile() and (source := packed.extractfile(entry)):
        with source, place.open("wb") as file:
            shutil.copyfileobj(source, file)
        place.chmod(entry.mode & 0o777 | 0o644)
    elif entry.isdir():
        place.mkdir(exist_ok=True)


def tree_sha256(folder: Path) -> str:
    """Return a sha256 over the names and contents of a folder's files, whatever archive they came in."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content}  {file.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _fetch_image(image: Image, target: Path, say: Say) -> None:
    """Take files out of an image's layers, the last layer first: programs are added at the end."""
    headers = {"Accept": _MANIFESTS} | _authorization(f"{image.url}/manifests/{image.digest}")
    with _opened(f"{image.url}/manifests/{image.digest}", headers) as response:
        manifest = response.read(CHUNK)
    _require(image.url, f"sha256:{hashlib.sha256(manifest).hexdigest()}", image.digest)
    wanted = dict(image.members)
    blob = target.with_name("layer")
    layers: list[dict[str, Any]] = json.loads(manifest)["layers"]
    for layer in reversed(layers):
        if not wanted:
            break
        address = f"{image.url}/blobs/{layer['digest']}"
        with _opened(address, headers) as response, blob.open("wb") as file:
            got = _copy(response, file, address, say)
        _require(address, f"sha256:{got}", layer["digest"])
        with tarfile.open(blob) as packed:
            for source in _extract(packed, wanted, target):
                del wanted[source]
        blob.unlink()
    if wanted:
        raise MismatchError(f"{image.url}@{image.digest} has no {', '.join(wanted)}")


def _authorization(url: str) -> dict[str, str]:
    """Return the header for anonymous access to a public image; empty where the registry wants none."""
    try:
        with _open(url, {"Accept": _MANIFESTS}):
            return {}
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise UnreachableError(f"{url}: {error.code} {error.reason}") from error
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
    address = (
        f"{challenge.get('realm')}?service={challenge.get('service', '')}&scope={challenge.get('scope', '')}"
    )
    with _opened(address) as response:
        answer = json.loads(response.read(CHUNK))
    return {"Authorization": f"Bearer {answer.get('token') or answer.get('access_token')}"}


def progress(name: str) -> Say:
    """Return what prints a kit's progress on stderr."""

    def say(text: str) -> None:
        sys.stderr.write(f"test-tools: {name}: {text}\n")
        sys.stderr.flush()

    return say


def release_hosts(kit: Kit) -> list[str]:
    """Return one address of each server that the kit's releases come from."""
    urls = [item.url for item in kit.downloads] + [image.url for image in kit.images]
    return list({urlsplit(url).netloc: url for url in urls}.values())

"""Asks a source what a model's files are, so that `assist models pin` can record it for review.

A hub tells the commit, sizes and the SHA-256 of its LFS files; other files are downloaded and hashed here.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from model_loader.errors import SourceError
from model_loader.plan import WantedFile
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources.credentials import token_from
from model_loader.sources.protocols import HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Pinned:
    """``revision`` is the commit the files belong to."""

    revision: str
    files: list[WantedFile]


def hub(
    repository: str, revision: str, endpoint: str | None = None, options: HttpOptions | None = None
) -> HubSource:
    """Return the hub of HF_ENDPOINT (or ``endpoint``), with the token of the environment."""
    address = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    transport = Transport(address, token_from(os.environ, None), options or HttpOptions())
    return HubSource(address, repository, revision, transport)


def resolve(
    source: Source, paths: Sequence[str], revision: str, patience: RetryPolicy | None = None
) -> Pinned:
    """Return commit, size and SHA-256 of every path. Raises SourceError for a path the source lacks."""
    patience = patience or RetryPolicy()
    if not isinstance(source, HubSource):
        return Pinned(revision, [_measured(source, WantedFile(path), patience) for path in paths])
    commit, listed = retrying(patience, source.listing)
    if missing := [path for path in paths if path not in listed]:
        raise SourceError(
            f"{source.name}@{commit[:12]} has no {', '.join(missing)};"
            f" it has {', '.join(sorted(listed)[:20])}."
        )
    at = source.at(commit)
    return Pinned(commit, [_known_or_measured(at, listed[path], patience) for path in paths])


def facts(source: Source, paths: Sequence[str], revision: str = "main") -> list[WantedFile]:
    """Return size and SHA-256 of every path; ``resolve`` also tells the commit."""
    return resolve(source, paths, revision).files


def _known_or_measured(source: Source, listed: WantedFile, patience: RetryPolicy) -> WantedFile:
    if listed.sha256 is not None and listed.size is not None:
        return listed
    return _measured(source, listed, patience)


def _measured(source: Source, wanted: WantedFile, patience: RetryPolicy) -> WantedFile:
    def once() -> WantedFile:
        body = source.open(wanted.path, 0, None, None)
        try:
            sha, size = hashlib.sha256(), 0
            for data in iter(body.read, b""):
                patience.check()
                sha.update(data)
                size += len(data)
            if size != (body.total if body.total is not None else size) or wanted.size not in (None, size):
                raise SourceError(
                    f"{source.name}: {wanted.path}: got {size} bytes, which is not what it said."
                )
            return dataclasses.replace(wanted, size=size, sha256=sha.hexdigest())
        finally:
            body.close()

    return retrying(patience, once)

"""Determines size and SHA-256 of a model's files, which `assist models pin` records for review.

A hub lists the commit, the sizes and the SHA-256 of its LFS files; other files are downloaded and hashed.
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
from model_loader.sources.protocols import DEFAULT_ENDPOINT, HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport


@dataclass(frozen=True)
class Pinned:
    """``revision`` is the commit that the files belong to."""

    revision: str
    files: list[WantedFile]


def hub(
    repository: str, revision: str, endpoint: str | None = None, options: HttpOptions | None = None
) -> HubSource:
    """Return a hub's repository, with the token of the environment.

    ``endpoint`` is the hub's address; the default is HF_ENDPOINT, else Hugging Face. Raises SourceError when
    the address or the token is invalid.
    """
    address = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    transport = Transport(address, token_from(os.environ, None), options or HttpOptions())
    return HubSource(address, repository, revision, transport)


def resolve(source: Source, paths: Sequence[str], revision: str, retry: RetryPolicy | None = None) -> Pinned:
    """Return the commit, and size and SHA-256 of every path.

    Raises SourceError for a path that the source does not contain, TransientError when the source fails in
    every try, and Stopped at the deadline of ``retry``.
    """
    retry = retry or RetryPolicy()
    if not isinstance(source, HubSource):
        return Pinned(revision, [_measured(source, WantedFile(path), retry) for path in paths])
    commit, listed = retrying(retry, source.listing)
    if missing := [path for path in paths if path not in listed]:
        raise SourceError(
            f"{source.name}@{commit[:12]} does not contain {', '.join(missing)};"
            f" its files: {', '.join(sorted(listed)[:20])}."
        )
    at_commit = source.at(commit)
    return Pinned(commit, [_complete(at_commit, listed[path], retry) for path in paths])


def facts(source: Source, paths: Sequence[str], revision: str = "main") -> list[WantedFile]:
    """Return size and SHA-256 of every path; ``resolve`` also returns the commit. Raises as ``resolve``."""
    return resolve(source, paths, revision).files


def _complete(source: Source, listed: WantedFile, retry: RetryPolicy) -> WantedFile:
    if listed.sha256 is not None and listed.size is not None:
        return listed
    return _measured(source, listed, retry)


def _measured(source: Source, file: WantedFile, retry: RetryPolicy) -> WantedFile:
    def once() -> WantedFile:
        body = source.open(file.path, 0, None, None)
        try:
            sha, size = hashlib.sha256(), 0
            for data in iter(body.read, b""):
                retry.check()
                sha.update(data)
                size += len(data)
            if size != (body.total if body.total is not None else size) or file.size not in (None, size):
                raise SourceError(
                    f"{source.name}: {file.path} has {size} bytes, which differs from the announced size."
                )
            return dataclasses.replace(file, size=size, sha256=sha.hexdigest())
        finally:
            body.close()

    return retrying(retry, once)

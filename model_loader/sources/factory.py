"""Creates a model's sources from ``--source``, the catalogue and the environment."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from model_loader.errors import PlanError, SourceError
from model_loader.sources.credentials import token_from
from model_loader.sources.fallback import HASTY_CONNECT_S
from model_loader.sources.index_settings import index_settings
from model_loader.sources.index_source import IndexSource
from model_loader.sources.object_store import SCHEMES, mirror
from model_loader.sources.package_index import PackageIndexes
from model_loader.sources.protocols import DEFAULT_ENDPOINT, FolderSource, HttpSource, HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport

if TYPE_CHECKING:
    from stackfile.catalogue import ModelFacts
    from stackfile.model_sources import ModelSource

HUB = "hub+"


@dataclasses.dataclass(frozen=True)
class _Connection:
    options: HttpOptions
    token_file: Path | None
    connections: int

    def transport(self, base: str) -> Transport:
        return Transport(base, token_from(os.environ, self.token_file), self.options, self.connections)

    def hasty(self) -> "_Connection":
        connect_s = min(self.options.connect_s, HASTY_CONNECT_S)
        return dataclasses.replace(self, options=dataclasses.replace(self.options, connect_s=connect_s))

    def hub(self, endpoint: str, repository: str, revision: str) -> HubSource:
        address = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        return HubSource(address, repository, revision, self.transport(address))


def make_sources(
    address: str | None,
    model: str,
    revision: str,
    options: HttpOptions,
    token_file: Path | None,
    connections: int,
) -> tuple[Source, ...]:
    """Return the source at ``address`` alone, or the catalogue's sources of ``model`` when it is None.

    Nothing is contacted yet.

    Args:
        address: ``hub+https://host`` for a hub in Hugging Face's layout, ``https://...`` for files under a
            base address, ``s3://bucket/folder``, ``gs://bucket/folder``, ``file://...`` or a path.
        model: id in the catalogue; without an entry, ``organisation/name`` is the hub's repository itself.
        revision: branch, tag or commit. Another one than the catalogue's is on hubs only.
        options: HTTP options; times in seconds.
        token_file: file with the hub token; HF_TOKEN_PATH or HF_TOKEN are used when it is None.
        connections: the number of connections that are kept open.

    Raises:
        PlanError: the catalogue has no source for this revision of ``model``.
        SourceError: the address is invalid or unsupported, or the token or a certificate cannot be read.
    """
    from stackfile.catalogue import ROOT, models  # a source without a catalogue entry needs none

    facts = models().get(model)
    connection = _Connection(options, token_file, connections)
    if address is not None:
        return (_at(address, model, revision, facts, connection),)
    if facts is None:
        if "/" not in model:
            raise PlanError(f"the catalogue has no source for {model!r}; add one or pass --source.")
        return (connection.hub("", model, revision),)
    if facts.path:
        return (FolderSource(ROOT / facts.path),)
    places = [place for place in facts.places if place.hub or revision == facts.revision]
    if not places:
        raise PlanError(
            f"{model}: no source has revision {revision}; the catalogue's revision is {facts.revision}."
        )
    if len(places) > 1:
        connection = connection.hasty()
    return tuple(_catalogued(place, facts, revision, connection) for place in places)


def _catalogued(place: "ModelSource", facts: "ModelFacts", revision: str, connection: _Connection) -> Source:
    if place.hub:
        pinned = place.revision if revision == facts.revision else None
        return connection.hub("", place.hub, pinned or revision)
    if place.index:
        sizes = {file.path: file.size or 0 for file in facts.files}

        def indexes() -> PackageIndexes:
            return PackageIndexes(index_settings(os.environ), connection.options, connection.connections)

        return IndexSource(indexes, place.index, sizes)
    return mirror(str(place.mirror), connection.options, connection.connections)


def _at(
    address: str, model: str, revision: str, facts: "ModelFacts | None", connection: _Connection
) -> Source:
    if address.startswith(HUB):
        # Without an entry, `organisation/name` is the repository itself.
        place = facts.hub if facts else None
        repository = place.hub if place else (model if facts is None and "/" in model else None)
        if repository is None:
            raise PlanError(f"the catalogue has no hub repository for {model!r}; add one or pass --source.")
        return connection.hub(address.removeprefix(HUB), repository, revision)
    if address.startswith(("http://", "https://")):
        return HttpSource(address, connection.transport(address))
    if address.startswith(SCHEMES):
        return mirror(address, connection.options, connection.connections)
    if address.startswith("file://"):
        return FolderSource(Path(url2pathname(urlsplit(address).path)))
    if "://" in address:
        raise SourceError(
            f"source {address.split('://')[0]}:// is not supported: use https, s3, gs, file, hub+https or a"
            " path."
        )
    return FolderSource(Path(address))

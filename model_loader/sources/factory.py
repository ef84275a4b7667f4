"""Creates a source from ``--source`` and the environment."""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from model_loader.errors import PlanError, SourceError
from model_loader.sources.credentials import token_from
from model_loader.sources.protocols import DEFAULT_ENDPOINT, FolderSource, HttpSource, HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport

HUB = "hub+"


def make_source(
    address: str | None,
    model: str,
    revision: str,
    options: HttpOptions,
    token_file: Path | None,
    connections: int,
) -> Source:
    """Return the source at ``address``, or the catalogue's source of ``model`` when it is None.

    Nothing is contacted yet.

    Args:
        address: ``hub+https://host`` for a hub in Hugging Face's layout, ``https://...`` for files under a
            base address, ``file://...`` or a path for a folder.
        model: id in the catalogue; without an entry, ``organisation/name`` is the hub's repository itself.
        revision: branch, tag or commit on the hub.
        options: HTTP options; times in seconds.
        token_file: file with the hub token; HF_TOKEN_PATH or HF_TOKEN are used when it is None.
        connections: the number of connections that are kept open.

    Raises:
        PlanError: a hub is needed and the catalogue has no repository for ``model``.
        SourceError: the address is invalid or unsupported, or the token or a certificate cannot be read.

    """
    repository, folder = _catalogued(model)
    if address is None and folder is not None:
        return FolderSource(folder)
    token = token_from(os.environ, token_file)
    if address is None or address.startswith(HUB):
        endpoint = (address or "").removeprefix(HUB) or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        if repository is None:
            raise PlanError(f"the catalogue has no hub repository for {model!r}; add one or pass --source.")
        return HubSource(endpoint, repository, revision, Transport(endpoint, token, options, connections))
    if address.startswith(("http://", "https://")):
        return HttpSource(address, Transport(address, token, options, connections))
    if address.startswith("file://"):
        return FolderSource(Path(url2pathname(urlsplit(address).path)))
    if "://" in address:
        raise SourceError(
            f"source {address.split('://')[0]}:// is not supported: use https, file, hub+https or a path."
        )
    return FolderSource(Path(address))


def _catalogued(model: str) -> tuple[str | None, Path | None]:
    from stackfile.catalogue import ROOT, models  # a source without a catalogue entry needs none

    facts = models().get(model)
    if facts is None:
        # Without an entry, `organisation/name` is the repository itself.
        return (model if "/" in model else None), None
    return facts.repository, ROOT / facts.path if facts.path else None

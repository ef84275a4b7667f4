"""Turns ``--source`` and the environment into a source."""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from model_loader.errors import PlanError, SourceError
from model_loader.sources.credentials import token_from
from model_loader.sources.pin import DEFAULT_ENDPOINT
from model_loader.sources.protocols import FolderSource, HttpSource, HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport

HUB = "hub+"


def make_source(
    where: str | None,
    model: str,
    revision: str,
    options: HttpOptions,
    token_file: Path | None,
    connections: int,
) -> Source:
    """Return the source ``where`` names, or the catalogue's for ``model`` when it is None.

    ``where``: ``hub+https://host`` a Hugging Face layout, ``https://…`` files under a base address,
    ``file://…`` or a path a folder. Nothing is contacted yet. Raises SourceError or PlanError.
    """
    repository, folder = _catalogued(model)
    if where is None and folder is not None:
        return FolderSource(folder)
    token = token_from(os.environ, token_file)
    if where is None or where.startswith(HUB):
        endpoint = (where or "").removeprefix(HUB) or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        if repository is None:
            raise PlanError(f"the catalogue names no hub repository for {model!r}; pass --source or add it.")
        return HubSource(endpoint, repository, revision, Transport(endpoint, token, options, connections))
    if where.startswith(("http://", "https://")):
        return HttpSource(where, Transport(where, token, options, connections))
    if where.startswith("file://"):
        return FolderSource(Path(url2pathname(urlsplit(where).path)))
    if "://" in where:
        raise SourceError(
            f"source {where.split('://')[0]}:// is not supported: use https, file, hub+https or a path."
        )
    return FolderSource(Path(where))


def _catalogued(model: str) -> tuple[str | None, Path | None]:
    from stackfile.catalogue import ROOT, models  # the loader also runs where no catalogue is installed

    facts = models().get(model)
    if facts is None:
        # Without an entry a model's id may be the repository itself, as `organisation/name`.
        return (model if "/" in model else None), None
    return facts.repository, ROOT / facts.path if facts.path else None

"""Records a model's revision, sizes and checksums in the catalogue (`assist models pin`).

Comments and the order of the file are kept.
"""

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from assist.atomic_write import write_text

if TYPE_CHECKING:
    from model_loader.plan import WantedFile


class CatalogueError(Exception):
    """The catalogue was not changed; the message has cause and remedy."""


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def record(catalogue: Path, model: str, revision: str, files: "Sequence[WantedFile]") -> bool:
    """Write ``revision`` and ``files`` of ``model`` into ``catalogue``; return whether the file changed.

    Raises CatalogueError for an unknown model and for a file without a checksum. The file is replaced in one
    step.
    """
    document: Any = _yaml().load(catalogue)
    models = document["models"]
    if model not in models:
        close = difflib.get_close_matches(model, models, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(models)}"
        raise CatalogueError(f"{model!r} is not in {catalogue.name}; {hint}")
    incomplete = [file.path for file in files if file.sha256 is None or file.size is None]
    if incomplete:
        raise CatalogueError(
            f"the source has no checksum or size for {', '.join(incomplete)}, so nothing was recorded; pin a"
            " revision of a hub that has them, or write them into the catalogue"
        )
    entry = models[model]
    before = {file["path"]: file.get("sha256") for file in entry["files"]}
    if "sources" in entry and before != {file.path: file.sha256 for file in files}:
        # Wheels have the bytes of the old pin.
        entry["sources"] = [source for source in entry["sources"] if "index" not in source]
    hub: dict[str, Any] = next((source for source in entry.get("sources", ()) if "hub" in source), {})
    hub.pop("revision", None)  # the model's own is the hub's from now on
    entry["revision"] = revision
    if (origin := entry.get("origin")) is not None:
        origin["pin"] = "hub"
    entry["files"] = [_entry(file) for file in sorted(files, key=lambda file: file.path)]
    text = io.StringIO()
    _yaml().dump(document, text)
    return _replace(catalogue, text.getvalue())


def record_index(catalogue: Path, model: str, block: dict[str, list[dict[str, str]]]) -> bool:
    """Write ``block`` as the last source of ``model``, in place of an earlier one; return whether it changed.

    Raises CatalogueError for an unknown model and for one that is inside this project.
    """
    document: Any = _yaml().load(catalogue)
    entry = document["models"].get(model)
    if entry is None:
        raise CatalogueError(
            f"{model!r} is not in {catalogue.name}; add it first, then package it with --write"
        )
    if "path" in entry:
        raise CatalogueError(f"{model} is inside this project and needs no index; leave --write out")
    if (repository := entry.pop("repository", None)) is not None:
        entry.insert(0, "sources", [CommentedMap({"hub": repository})])
    others = [source for source in entry["sources"] if "index" not in source]
    entry["sources"] = [*others, _index_source(block)]
    text = io.StringIO()
    _yaml().dump(document, text)
    return _replace(catalogue, text.getvalue())


def dump_index(block: dict[str, list[dict[str, str]]], stream: io.StringIO) -> None:
    """Write ``block`` as it stands in the catalogue under ``sources``."""
    _yaml().dump([_index_source(block)], stream)


def _index_source(block: dict[str, list[dict[str, str]]]) -> CommentedMap:
    source = CommentedMap({"index": CommentedMap()})
    for file, parts in block.items():
        source["index"][file] = [CommentedMap(part) for part in parts]
    return source


def _entry(file: "WantedFile") -> CommentedMap:
    entry = CommentedMap({"path": file.path, "size": file.size, "sha256": file.sha256})
    entry.fa.set_flow_style()
    return entry


def _replace(target: Path, text: str) -> bool:
    if target.read_text(encoding="utf-8") == text:
        return False
    write_text(target, text, target.stat().st_mode & 0o777)
    return True

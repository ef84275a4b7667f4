"""Writes the catalogue: pins, indexes of wheels, and models that a user adds.

Comments and the order of the file are kept.
"""

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from assist.atomic_write import write_text

if TYPE_CHECKING:
    from model_loader.plan import WantedFile


_ADDED_HEAD = """\
# Models that `assist models add` has added; `assist models remove MODEL` removes one.
# The fields are those of catalogue/models.yaml.
"""


class CatalogueError(Exception):
    """The catalogue was not changed; the message has cause and remedy."""


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


@dataclass(frozen=True)
class Pin:
    """What a pin records of a model: the commit, its files, and the ``format`` of their weights."""

    revision: str
    files: "Sequence[WantedFile]"
    format: str


def record(catalogue: Path, model: str, pin: Pin, *, dry_run: bool = False) -> bool:
    """Write the ``pin`` of ``model`` into ``catalogue``; return whether that changes the file.

    Raises CatalogueError for an unknown model and for a file without a checksum. The file is replaced in one
    step, and not at all with ``dry_run``.
    """
    files = pin.files
    document: Any = _yaml().load(catalogue)
    models = document["models"]
    if model not in models:
        close = difflib.get_close_matches(model, models, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`assist models list` shows all models"
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
    entry["revision"] = pin.revision
    entry["format"] = pin.format
    if (origin := entry.get("origin")) is not None:
        origin["pin"] = "hub"
    entry["files"] = [_entry(file) for file in sorted(files, key=lambda file: file.path)]
    return _replace(catalogue, _text(document), dry_run=dry_run)


def put(file: Path, model: str, entry: Mapping[str, Any]) -> None:
    """Write the ``entry`` of ``model`` into a file of added models, which is made if missing, in one step.

    Raises OSError where the file cannot be written.
    """
    document: Any = _yaml().load(file if file.exists() else f"{_ADDED_HEAD}models: {{}}\n")
    document["models"].fa.set_block_style()
    document["models"][model] = _styled(entry)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _text(document), 0o644)


def drop(file: Path, model: str) -> None:
    """Remove ``model`` from a file of added models, and with its last entry the file.

    Raises KeyError for an unknown model, and OSError where the file cannot be written.
    """
    document: Any = _yaml().load(file)
    del document["models"][model]
    if document["models"]:
        write_text(file, _text(document), 0o644)
    else:
        file.unlink()


def dump(model: str, entry: Mapping[str, Any]) -> str:
    """Return the YAML of one entry as it stands in the catalogue."""
    return _text(CommentedMap({"models": CommentedMap({model: _styled(entry)})}))


def _text(document: Any) -> str:  # noqa: ANN401 -- ruamel's own
    text = io.StringIO()
    _yaml().dump(document, text)
    return text.getvalue()


def _styled(entry: Mapping[str, Any]) -> CommentedMap:
    """Return an entry in the catalogue's style: what is short is on one line."""
    styled = CommentedMap(entry)
    for key in ("memory_gib", "origin", "stop"):
        if key in styled:
            styled[key] = _on_one_line(entry[key])
    if "fim" in styled:
        styled["fim"] = CommentedMap(entry["fim"] | {"stop": _on_one_line(entry["fim"]["stop"])})
    styled["files"] = [_on_one_line(file) for file in entry["files"]]
    return styled


def _on_one_line(value: Any) -> Any:  # noqa: ANN401 -- a list or a mapping, as ruamel's own
    styled = CommentedMap(value) if isinstance(value, Mapping) else CommentedSeq(value)
    styled.fa.set_flow_style()
    return styled


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
    return _replace(catalogue, _text(document))


def dump_index(block: dict[str, list[dict[str, str]]], stream: io.StringIO) -> None:
    """Write ``block`` as it stands in the catalogue under ``sources``."""
    _yaml().dump([_index_source(block)], stream)


def _index_source(block: dict[str, list[dict[str, str]]]) -> CommentedMap:
    source = CommentedMap({"index": CommentedMap()})
    for file, parts in block.items():
        source["index"][file] = [CommentedMap(part) for part in parts]
    return source


def _entry(file: "WantedFile") -> Any:  # noqa: ANN401 -- ruamel's own
    return _on_one_line({"path": file.path, "size": file.size, "sha256": file.sha256})


def _replace(target: Path, text: str, *, dry_run: bool = False) -> bool:
    if target.read_text(encoding="utf-8") == text:
        return False
    if not dry_run:
        write_text(target, text, target.stat().st_mode & 0o777)
    return True

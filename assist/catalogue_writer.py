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
    models[model]["revision"] = revision
    if (origin := models[model].get("origin")) is not None:
        origin["pin"] = "hub"
    models[model]["files"] = [_entry(file) for file in sorted(files, key=lambda file: file.path)]
    text = io.StringIO()
    _yaml().dump(document, text)
    return _replace(catalogue, text.getvalue())


def _entry(file: "WantedFile") -> CommentedMap:
    entry = CommentedMap({"path": file.path, "size": file.size, "sha256": file.sha256})
    entry.fa.set_flow_style()
    return entry


def _replace(target: Path, text: str) -> bool:
    if target.read_text(encoding="utf-8") == text:
        return False
    write_text(target, text, target.stat().st_mode & 0o777)
    return True

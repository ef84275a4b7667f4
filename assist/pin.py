"""`assist models pin`: ask the hub what a model's files are, and record sizes and checksums in the catalogue.

From then on the catalogue, not the hub, says what may be served. Comments and order of the file are kept.
"""

import difflib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

if TYPE_CHECKING:
    from model_loader.plan import WantedFile


class PinError(Exception):
    """The catalogue was not changed; the message says why and what to do."""


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def record(catalogue: Path, model: str, revision: str, files: "Sequence[WantedFile]") -> bool:
    """Write ``revision`` and ``files`` of ``model`` into ``catalogue``; say whether that changed anything.

    Raises PinError for an unknown model and for a file without a checksum. The file is replaced whole
    or not at all.
    """
    document: Any = _yaml().load(catalogue)
    models = document["models"]
    if model not in models:
        close = difflib.get_close_matches(model, models, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(models)}"
        raise PinError(f"{model!r} is not in {catalogue.name}; {hint}")
    unknown = [file.path for file in files if file.sha256 is None or file.size is None]
    if unknown:
        raise PinError(f"the source gave no checksum or size for {', '.join(unknown)}; nothing was recorded")
    models[model]["revision"] = revision
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
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(descriptor, target.stat().st_mode & 0o777)
        stream.flush()
        os.fsync(descriptor)
    Path(name).replace(target)
    return True

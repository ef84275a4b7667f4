"""The header of a source's GGUF file, of which no more is asked for than the header needs."""

from pathlib import Path

from model_loader.errors import ModelError
from model_loader.inspection.source_bytes import SourceBytes
from model_loader.sources.protocols import FolderSource
from serving.backend import gguf_header
from serving.backend.gguf_header import Header


def read(file: Path) -> Header:
    """Return the header of a local file. Raises as ``parse``, and SourceError where it cannot be read."""
    return parse(SourceBytes(FolderSource(file.parent), file.name, file.stat().st_size))


def parse(data: SourceBytes) -> Header:
    """Return the header of a GGUF file. Raises ModelError, with what is wrong, where it cannot be used."""
    try:
        return gguf_header.parse(data.read, data.size, data.name)
    except gguf_header.GgufError as error:
        raise ModelError(str(error)) from None

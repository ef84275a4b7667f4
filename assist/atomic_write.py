"""Replaces a file in one step: readers see the old content or the new, also after a crash."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from model_loader.atomic_files import sync_folder


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """Open a new file that replaces ``path`` when the block ends, and vanishes when the block fails.

    Until then only the owner can read the new file; ``mode`` applies to the final one. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str, mode: int) -> None:
    """Replace the content of ``path`` in one step. Raises OSError."""
    with replacing(path, mode) as file:
        file.write(text.encode())

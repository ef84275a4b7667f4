"""Files and folders that the user alone may read, written whole or not at all."""

import os
import tempfile
from pathlib import Path


def folder(path: Path, *, write: bool = True) -> bool:
    """Make ``path`` a folder of mode 0700; say whether that was (or is to be) a change."""
    if path.is_dir() and path.stat().st_mode & 0o777 == 0o700:
        return False
    if write:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    return True


def file(path: Path, content: str, *, write: bool = True) -> bool:
    """Make ``path`` a file of mode 0600 with ``content``; say whether that was (or is to be) a change."""
    wanted = content.encode()
    if path.is_file() and path.stat().st_mode & 0o777 == 0o600 and path.read_bytes() == wanted:
        return False
    if write:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(wanted)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return True

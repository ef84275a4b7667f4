"""The part of the project that runs on hosts, as one archive named by its content."""

import argparse
import gzip
import hashlib
import os
import sys
import tarfile
from pathlib import Path
from typing import IO

from assist.atomic_write import replacing
from assist.package_index import PIP_SETTINGS
from assist.paths import SOURCE

# The programs, the locks they are installed from, the facts and the models that come with the project.
SHIPPED = (
    "catalogue",
    "gateway",
    "model_loader",
    "models",
    "requirements",
    "scripts",
    "serving",
    "stackfile",
)
# scripts/bootstrap translates the user's pip settings with a file of Ansible's plugins.
ALSO = ("LICENSE", PIP_SETTINGS)
COMPLETE = ".complete"
SUFFIX = ".tar.gz"


def files(source: Path = SOURCE) -> list[Path]:
    """Return every file of the release, sorted."""
    paths = [path for name in SHIPPED for path in (source / name).rglob("*") if path.is_file()]
    kept = [path for path in paths if "__pycache__" not in path.parts]
    return sorted([*kept, *(source / name for name in ALSO)])


def release_id(source: Path = SOURCE) -> str:
    """Return the name of the release that ``source`` contains: a digest of names, contents and modes."""
    total = hashlib.sha256()
    for path in files(source):
        executable = os.access(path, os.X_OK)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(source)}\0{executable:d}\0{content}\n".encode())
    return total.hexdigest()[:12]


def build(folder: Path, source: Path = SOURCE) -> Path:
    """Return the release's archive in ``folder``, written if missing; the same files give the same bytes."""
    target = folder / f"{release_id(source)}{SUFFIX}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(target, 0o600) as stream:
        _write(stream, source)
    return target


def _write(stream: IO[bytes], source: Path) -> None:
    # Without the time and the name in gzip's own header.
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in files(source):
            entry = tarfile.TarInfo(str(path.relative_to(source)))
            entry.size = path.stat().st_size
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
        # Last, so that the marker exists only when everything else does.
        archive.addfile(tarfile.TarInfo(COMPLETE))


def main() -> int:
    """Build the archive and print its release's name."""
    parser = argparse.ArgumentParser(prog="python -m assist.hosts.release", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the archives")
    archive = build(parser.parse_args().folder)
    sys.stdout.write(archive.name.removesuffix(SUFFIX) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

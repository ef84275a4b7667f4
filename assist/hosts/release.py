"""What of the project runs on a host, as one archive that is named by its content."""

import argparse
import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

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
# Of Ansible's plugins, what scripts/bootstrap reads the user's pip settings with.
ALSO = ("LICENSE", "ansible/plugins/module_utils/pip_settings.py")
COMPLETE = ".complete"
SUFFIX = ".tar.gz"


def files(source: Path = SOURCE) -> list[Path]:
    """Return every file that is shipped, sorted."""
    found = [path for name in SHIPPED for path in (source / name).rglob("*") if path.is_file()]
    kept = [path for path in found if "__pycache__" not in path.parts]
    return sorted([*kept, *(source / name for name in ALSO)])


def release_id(source: Path = SOURCE) -> str:
    """Return the name of the release that ``source`` is now: a digest of names, contents and modes."""
    total = hashlib.sha256()
    for path in files(source):
        executable = os.access(path, os.X_OK)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(source)}\0{executable:d}\0{content}\n".encode())
    return total.hexdigest()[:12]


def build(folder: Path, source: Path = SOURCE) -> Path:
    """Return the release's archive in ``folder``, made where it is missing. Same content, same bytes."""
    target = folder / f"{release_id(source)}{SUFFIX}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".release.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _write(stream, source)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def _write(stream: io.BufferedIOBase, source: Path) -> None:
    # gzip's own header would hold the time and the name.
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
        # Last, so that it is there only when everything else is.
        archive.addfile(tarfile.TarInfo(COMPLETE))


def main() -> int:
    """Build the archive and print its release's name."""
    parser = argparse.ArgumentParser(prog="python -m assist.hosts.release", description=__doc__)
    parser.add_argument("folder", type=Path, help="where archives are kept")
    archive = build(parser.parse_args().folder)
    sys.stdout.write(archive.name.removesuffix(SUFFIX) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

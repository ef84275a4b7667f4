"""Putting a bundle in place: ``<home>/bundle`` names the one that ``make up`` and the playbooks take from.

::

    <home>/bundles/<digest>/   one verified bundle: its folders, manifest.json, locks.sha256
    <home>/bundle              symlink to it, switched last
"""

import contextlib
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from assist.bundle import archive as archives
from assist.bundle import manifest as manifests
from assist.bundle.archive import Progress
from assist.bundle.errors import BundleError
from assist.bundle.manifest import Entry, Manifest
from assist.bundle.paths import BundlePaths, checksum
from assist.bundle.signatures import PublicKey
from model_loader import atomic_files
from model_loader.errors import StoreError

FOLDER, LOCKS = "bundles", "locks.sha256"
_MARGIN = 64 * 2**20


def install(
    archive: Path, key: PublicKey, place: BundlePaths, progress: Progress = lambda _: None
) -> Manifest:
    """Verify all of ``archive``, unpack it beside what is there, then switch to it. Raises BundleError.

    Whatever fails, the bundle in place stays, and nothing half-written. Doing it twice changes nothing.
    """
    manifest = archives.manifest_of(archive, key)
    check_fits(manifest, place)
    archives.verify(archive, key, progress)
    name = hashlib.sha256(manifest.to_json()).hexdigest()[:16]
    folder = place.home / FOLDER / name
    try:
        if not _is_whole(folder, manifest):
            _check_space(manifest, place)
            atomic_files.make_folder(folder.parent)
            _unpack(archive, key, folder, progress)
        atomic_files.point(place.link, f"{FOLDER}/{name}")
        _sweep(folder)
    except (OSError, StoreError) as error:
        raise BundleError(f"the bundle can't be put in {place.home}: {error}") from error
    return manifest


def check_fits(manifest: Manifest, place: BundlePaths) -> None:
    """Refuse a bundle made for another machine or another version of the project. Raises BundleError."""
    version = "{}.{}".format(*sys.version_info)
    if manifest.python != version:
        raise BundleError(
            f"the bundle is for Python {manifest.python}, this is {version}. Run this with"
            f" python{manifest.python}, or build the bundle on a machine with this Python."
        )
    machine, (libc, found) = platform.machine(), platform.libc_ver()
    if manifest.machine not in ("", machine):
        raise BundleError(
            f"the bundle is for {manifest.machine}, this is {machine}. Build it on such a machine."
        )
    if manifest.glibc and (libc != "glibc" or _number(found) < _number(manifest.glibc)):
        raise BundleError(
            f"the bundle's wheels need glibc {manifest.glibc}, here is {libc or 'no glibc'} {found}. Use"
            " Debian 12, Ubuntu 22.04 or newer."
        )
    other = [
        path for path, sha256 in sorted(manifest.sources.items()) if checksum(place.source / path) != sha256
    ]
    if other:
        raise BundleError(
            f"the bundle was built from another version of this project: {', '.join(other)} differ. Bring the"
            " clone that it was built from, or build the bundle again from this one."
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _check_space(manifest: Manifest, place: BundlePaths) -> None:
    existing = next(path for path in (place.home, *place.home.parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, manifest.size + _MARGIN
    if free < needed:
        raise BundleError(
            f"{needed / 2**20:,.0f} MiB are needed in {place.home}, {free / 2**20:,.0f} are free. Free some"
            " space, or put the clone on a larger disk."
        )


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Say whether it is there already, to the byte: install is also how a damaged one is mended."""
    paths = {entry.path: folder / entry.path for entry in manifest.files}
    with contextlib.suppress(BundleError):
        return tuple(archives.entries(paths)) == manifest.files and (folder / LOCKS).is_file()
    return False


def _unpack(archive: Path, key: PublicKey, folder: Path, progress: Progress) -> None:
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o755)
    try:
        manifest = archives.read(archive, key, lambda entry: _created(staging, entry), progress)
        locks = [f"{sha256}  {path}" for path, sha256 in sorted(manifest.sources.items())]
        atomic_files.write_file(staging / manifests.NAME, manifest.to_json())
        atomic_files.write_file(staging / LOCKS, ("\n".join(locks) + "\n").encode())
        shutil.rmtree(folder, ignore_errors=True)  # there, but not whole
        staging.rename(folder)
        atomic_files.sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _created(folder: Path, entry: Entry) -> Iterator[IO[bytes]]:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        yield stream
        os.fchmod(stream.fileno(), 0o444)


def _sweep(kept: Path) -> None:
    """Remove the bundles that were in place before, and what a killed run has left."""
    for path in kept.parent.iterdir():
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)

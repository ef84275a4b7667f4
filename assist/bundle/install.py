"""Installs a bundle: ``make up`` and the playbooks take everything from ``<home>/bundle``.

::

    <home>/bundles/<digest>/   a verified bundle: its folders, manifest.json, locks.sha256
    <home>/bundle              symbolic link to the folder, switched last
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
from assist.bundle.manifest import BundleManifest, Entry
from assist.bundle.paths import BundlePaths, checksum
from assist.bundle.signatures import PublicKey
from assist.versions import numbers
from model_loader import atomic_files
from model_loader.errors import StoreError

FOLDER, LOCKS = "bundles", "locks.sha256"
_MARGIN = 64 * 2**20


def install(
    archive: Path, key: PublicKey, paths: BundlePaths, progress: Progress = lambda _: None
) -> BundleManifest:
    """Verify ``archive``, unpack it beside the installed bundle, then switch to it. Raises BundleError.

    After a failure the installed bundle is unchanged, and no partial one remains. Installing the same bundle
    again changes nothing.
    """
    manifest = archives.manifest_of(archive, key)
    check_fits(manifest, paths)
    archives.verify(archive, key, progress)
    name = hashlib.sha256(manifest.to_json()).hexdigest()[:16]
    folder = paths.home / FOLDER / name
    try:
        if not _is_whole(folder, manifest):
            _check_space(manifest, paths)
            atomic_files.make_folder(folder.parent)
            _unpack(archive, key, folder, progress)
        atomic_files.point(paths.link, f"{FOLDER}/{name}")
        _sweep(folder)
    except (OSError, StoreError) as error:
        raise BundleError(f"the bundle can't be installed in {paths.home}: {error}") from error
    return manifest


def check_fits(manifest: BundleManifest, paths: BundlePaths) -> None:
    """Raise BundleError for a bundle of another machine or another version of the project."""
    version = "{}.{}".format(*sys.version_info)
    if manifest.python != version:
        raise BundleError(
            f"the bundle is for Python {manifest.python}, this is {version}. Run this with"
            f" python{manifest.python}, or build the bundle on a machine with this Python."
        )
    machine, (libc, libc_version) = platform.machine(), platform.libc_ver()
    if manifest.machine not in ("", machine):
        raise BundleError(
            f"the bundle is for {manifest.machine}, this is {machine}. Build the bundle on such a machine."
        )
    if manifest.glibc and (libc != "glibc" or numbers(libc_version) < numbers(manifest.glibc)):
        raise BundleError(
            f"the bundle's wheels need glibc {manifest.glibc}, here is {libc or 'no glibc'} {libc_version}."
            " Use Debian 12, Ubuntu 22.04 or newer."
        )
    changed = [
        path for path, sha256 in sorted(manifest.sources.items()) if checksum(paths.source / path) != sha256
    ]
    if changed:
        raise BundleError(
            f"the bundle was built from another version of this project: {', '.join(changed)} differ. Use the"
            " clone that the bundle was built from, or build the bundle again from this one."
        )


def _check_space(manifest: BundleManifest, paths: BundlePaths) -> None:
    existing = next(path for path in (paths.home, *paths.home.parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, manifest.size + _MARGIN
    if free < needed:
        raise BundleError(
            f"{needed / 2**20:,.0f} MiB are needed in {paths.home}, {free / 2**20:,.0f} are free. Free some"
            " space, or move the clone to a larger disk."
        )


def _is_whole(folder: Path, manifest: BundleManifest) -> bool:
    """Return whether the folder has exactly the manifest's files; a damaged folder is installed again."""
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
        shutil.rmtree(folder, ignore_errors=True)  # exists, but damaged
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
    """Remove the bundles installed before, and the leftovers of killed runs."""
    for path in kept.parent.iterdir():
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)

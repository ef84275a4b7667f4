"""The archive: written deterministically, read in one pass that checks everything before use.

The manifest comes first, and its signature is checked before its content is used. Then every member must be
the manifest's next file: a regular file of the listed size and checksum. So an archive with a file added,
moved, altered or cut short is refused.
"""

import contextlib
import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from assist.atomic_write import replacing
from assist.bundle import manifest as manifests
from assist.bundle import signatures
from assist.bundle.errors import BundleError
from assist.bundle.manifest import BundleManifest, Entry
from assist.bundle.signatures import PublicKey

BLOCK = 1024 * 1024
_LIMITS = {manifests.NAME: 64 * BLOCK, manifests.SIGNATURE: 4096}
_AGAIN = "Copy the bundle again; if that does not help, build the bundle again."

Progress = Callable[[int], None]
Sink = Callable[[Entry], contextlib.AbstractContextManager[IO[bytes]]]


def write(
    target: Path, manifest: BundleManifest, signature: bytes, files: dict[str, Path], progress: Progress
) -> None:
    """Write the archive in one step; the same manifest gives the same bytes. Raises BundleError."""
    try:
        with (
            replacing(target, 0o644) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path, data in ((manifests.NAME, manifest.to_json()), (manifests.SIGNATURE, signature)):
                tar.addfile(_member(path, len(data)), BytesIO(data))
            for entry in manifest.files:
                with files[entry.path].open("rb") as source:
                    checked = _Checked(source, entry, progress)
                    tar.addfile(_member(entry.path, entry.size), checked)
                checked.finish()
    except OSError as error:
        raise BundleError(
            f"{target} can't be written: {error.strerror or error}. Free some space or choose another folder."
        ) from error


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)  # owner 0, time 0, mode 0644: independent of the machine
    member.size = size
    return member


class _Checked:
    """A file whose size and checksum are compared with its entry while it is read."""

    def __init__(self, source: IO[bytes], entry: Entry, progress: Progress) -> None:
        self._source, self._entry, self._progress = source, entry, progress
        self._sha = hashlib.sha256()
        self._size = 0

    def read(self, size: int = BLOCK) -> bytes:
        """Return the next bytes."""
        data = self._source.read(min(size, BLOCK))
        self._sha.update(data)
        self._size += len(data)
        self._progress(len(data))
        return data

    def finish(self) -> None:
        """Raise BundleError unless the whole file was read and has the entry's checksum."""
        if (self._size, self._sha.hexdigest()) != (self._entry.size, self._entry.sha256):
            raise BundleError(
                f"{self._entry.path}: the content differs from the manifest: altered or damaged. {_AGAIN}"
            )


def manifest_of(archive: Path, key: PublicKey) -> BundleManifest:
    """Return the manifest, once its signature by ``key`` is checked; the files are not read."""
    with _opened(archive) as (_, tar):
        return _signed_manifest(archive, tar, key)


def verify(archive: Path, key: PublicKey, progress: Progress = lambda _: None) -> BundleManifest:
    """Read the whole archive and return its manifest; nothing is written. Raises BundleError."""
    return read(archive, key, lambda _: contextlib.nullcontext(_Nowhere()), progress)


class _Nowhere(BytesIO):
    def write(self, data: object, /) -> int:  # noqa: ARG002  -- BytesIO
        return 0


def read(archive: Path, key: PublicKey, sink: Sink, progress: Progress = lambda _: None) -> BundleManifest:
    """Write every file to the stream that ``sink`` opens for it. Raises BundleError at the first fault.

    After a fault the caller removes the files written so far.
    """
    with _opened(archive) as (stream, tar):
        manifest = _signed_manifest(archive, tar, key)
        for entry in manifest.files:
            content = _content(archive, tar, entry)
            checked = _Checked(content, entry, progress)
            with sink(entry) as target:
                while data := checked.read():
                    target.write(data)
            checked.finish()
        _nothing_more(archive, stream, tar)
    return manifest


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tuple[IO[bytes], tarfile.TarFile]]:
    try:
        with archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            yield stream, tar
    except tarfile.TarError as error:
        raise BundleError(f"{archive}: not a bundle, or cut short ({error}). {_AGAIN}") from error
    except OSError as error:
        raise BundleError(f"{error.filename or archive}: {error.strerror or error}.") from error


def _signed_manifest(archive: Path, tar: tarfile.TarFile, key: PublicKey) -> BundleManifest:
    text, signature = (_small(archive, tar, name) for name in _LIMITS)
    signatures.check(signature, text, key)
    return manifests.parse(text)


def _small(archive: Path, tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg() or member.size > _LIMITS[name]:
        raise BundleError(f"{archive}: not a bundle: {name} is missing or misplaced. {_AGAIN}")
    content = tar.extractfile(member)
    return content.read() if content else b""


def _content(archive: Path, tar: tarfile.TarFile, entry: Entry) -> IO[bytes]:
    member = tar.next()
    if member is None:
        raise BundleError(f"{archive}: cut short before {entry.path}. {_AGAIN}")
    if member.name != entry.path or not member.isreg() or member.issparse() or member.size != entry.size:
        raise BundleError(
            f"{archive}: {member.name[:80]!r} ({member.size} bytes) is where the manifest has {entry.path}"
            f" ({entry.size} bytes): a file was added, altered or removed. {_AGAIN}"
        )
    content = tar.extractfile(member)
    if content is None:
        raise BundleError(f"{archive}: {entry.path} is not a regular file. {_AGAIN}")
    return content


def _nothing_more(archive: Path, stream: IO[bytes], tar: tarfile.TarFile) -> None:
    extra = tar.next()
    if extra is not None:
        raise BundleError(
            f"{archive}: {extra.name[:80]!r} is not in the manifest: a file was added. {_AGAIN}"
        )
    stream.seek(_end(tar))
    rest = stream.read(2 * tarfile.RECORDSIZE + 1)
    if (
        len(rest) < 2 * tarfile.BLOCKSIZE
        or len(rest) > tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE
        or any(rest)
    ):
        raise BundleError(
            f"{archive}: does not end after its last file: cut short, or data was added. {_AGAIN}"
        )


def _end(tar: tarfile.TarFile) -> int:
    last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def entries(files: dict[str, Path]) -> Iterable[Entry]:
    """Yield the manifest's entries of ``files``, in its order. Raises BundleError for an unreadable file."""
    for path in sorted(files):
        try:
            with files[path].open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                yield Entry(path, stream.tell(), sha256)
        except OSError as error:
            raise BundleError(f"{files[path]} can't be read: {error.strerror}.") from error

"""The archive: written deterministically, read in one pass that trusts nothing it has not checked.

The manifest comes first and is believed once its signature is; then every member must be the manifest's next
file, a plain one, of its size and checksum. So what is extra, moved, altered or cut short is refused.
"""

import contextlib
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from assist.bundle import manifest as manifests
from assist.bundle import signatures
from assist.bundle.errors import BundleError
from assist.bundle.manifest import Entry, Manifest
from assist.bundle.signatures import PublicKey

BLOCK = 1024 * 1024
_LIMITS = {manifests.NAME: 64 * BLOCK, manifests.SIGNATURE: 4096}
_AGAIN = "Copy it again; if that does not help, build it again."

Progress = Callable[[int], None]
Sink = Callable[[Entry], contextlib.AbstractContextManager[IO[bytes]]]


def write(
    target: Path, manifest: Manifest, signature: bytes, files: dict[str, Path], progress: Progress
) -> None:
    """Write the archive whole or not at all: the same manifest gives the same bytes. Raises BundleError."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path, data in ((manifests.NAME, manifest.to_json()), (manifests.SIGNATURE, signature)):
                    tar.addfile(_member(path, len(data)), BytesIO(data))
                for entry in manifest.files:
                    with files[entry.path].open("rb") as source:
                        checked = _Checked(source, entry, progress)
                        tar.addfile(_member(entry.path, entry.size), checked)
                    checked.finish()
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise BundleError(
            f"{target} can't be written: {error.strerror or error}. Free space, or name another place."
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)  # owner 0, time 0, mode 0644: nothing of the machine that made it
    member.size = size
    return member


class _Checked:
    """A file that must be what its entry says, while it is read."""

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
        """Raise BundleError unless all of it was read and it was the right content."""
        if (self._size, self._sha.hexdigest()) != (self._entry.size, self._entry.sha256):
            raise BundleError(
                f"{self._entry.path}: its content is not what the manifest says: altered or damaged. {_AGAIN}"
            )


def manifest_of(archive: Path, key: PublicKey) -> Manifest:
    """Return the manifest, once its signature by ``key`` is checked; the files are not read."""
    with _opened(archive) as (_, tar):
        return _signed_manifest(archive, tar, key)


def verify(archive: Path, key: PublicKey, progress: Progress = lambda _: None) -> Manifest:
    """Read the whole archive and return its manifest; nothing is written. Raises BundleError."""
    return read(archive, key, lambda _: contextlib.nullcontext(_Nowhere()), progress)


class _Nowhere(BytesIO):
    def write(self, data: object, /) -> int:  # noqa: ARG002  -- BytesIO
        return 0


def read(archive: Path, key: PublicKey, sink: Sink, progress: Progress = lambda _: None) -> Manifest:
    """Hand every file to the stream that ``sink`` opens for it. Raises BundleError at the first fault.

    What was handed over before a fault is the caller's to remove.
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
        raise BundleError(f"{archive}: no bundle, or cut short ({error}). {_AGAIN}") from error
    except OSError as error:
        raise BundleError(f"{error.filename or archive}: {error.strerror or error}.") from error


def _signed_manifest(archive: Path, tar: tarfile.TarFile, key: PublicKey) -> Manifest:
    text, signature = (_small(archive, tar, name) for name in _LIMITS)
    signatures.check(signature, text, key)
    return manifests.parse(text)


def _small(archive: Path, tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg() or member.size > _LIMITS[name]:
        raise BundleError(f"{archive}: no bundle: {name} is not where a bundle has it. {_AGAIN}")
    content = tar.extractfile(member)
    return content.read() if content else b""


def _content(archive: Path, tar: tarfile.TarFile, entry: Entry) -> IO[bytes]:
    member = tar.next()
    if member is None:
        raise BundleError(f"{archive}: cut short before {entry.path}. {_AGAIN}")
    if member.name != entry.path or not member.isreg() or member.issparse() or member.size != entry.size:
        raise BundleError(
            f"{archive}: {member.name[:80]!r} ({member.size} bytes) is where the manifest has {entry.path}"
            f" ({entry.size} bytes): something was added, altered or taken out. {_AGAIN}"
        )
    content = tar.extractfile(member)
    if content is None:
        raise BundleError(f"{archive}: {entry.path} is no file. {_AGAIN}")
    return content


def _nothing_more(archive: Path, stream: IO[bytes], tar: tarfile.TarFile) -> None:
    extra = tar.next()
    if extra is not None:
        raise BundleError(
            f"{archive}: {extra.name[:80]!r} is not in the manifest: something was added. {_AGAIN}"
        )
    stream.seek(_end(tar))
    rest = stream.read(2 * tarfile.RECORDSIZE + 1)
    if (
        len(rest) < 2 * tarfile.BLOCKSIZE
        or len(rest) > tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE
        or any(rest)
    ):
        raise BundleError(
            f"{archive}: does not end where its last file does: cut short or added to. {_AGAIN}"
        )


def _end(tar: tarfile.TarFile) -> int:
    last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def entries(files: dict[str, Path]) -> Iterable[Entry]:
    """Return what the manifest says of ``files``, in its order. Raises BundleError when one can't be read."""
    for path in sorted(files):
        try:
            with files[path].open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                yield Entry(path, stream.tell(), sha256)
        except OSError as error:
            raise BundleError(f"{files[path]} can't be read: {error.strerror}.") from error

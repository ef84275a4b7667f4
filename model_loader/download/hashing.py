"""SHA-256 of a file while its segments arrive in any order, in constant memory."""

import hashlib
import os
import threading
from pathlib import Path

from model_loader.atomic_files import guarded, open_file
from model_loader.download.part_file import Partial

BLOCK = 1024 * 1024


class FollowingHash:
    """Hashes the gapless prefix of a part file.

    The writer at the prefix's end hands its own buffer over; what other writers finished ahead of it is read
    back (from the page cache) once the prefix reaches it. hashlib and pread release the GIL.
    """

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._sha = hashlib.sha256()
        self._at = 0
        self._lock = threading.Lock()

    def feed(self, offset: int, data: bytes) -> None:
        """Take ``data`` just written at ``offset``, if the prefix can reach it and nobody else is hashing."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._at < offset:
                self._advance(offset)
            if self._at == offset:
                self._sha.update(data)
                self._at += len(data)
        finally:
            self._lock.release()

    def catch_up(self) -> None:
        """Hash everything gapless that is on disk."""
        with self._lock:
            self._advance(self._partial.shape.size)

    def _advance(self, limit: int) -> None:
        buffer = bytearray(BLOCK)
        view = memoryview(buffer)
        end = min(limit, self._partial.contiguous(self._at))
        while self._at < end:
            with guarded(f"cannot read back {self._partial.part.name}"):
                got = os.preadv(self._partial.fd, [view[: min(BLOCK, end - self._at)]], self._at)
            if got == 0:
                return  # somebody truncated the part file; the final size check names it
            self._sha.update(view[:got])
            self._at += got

    def hexdigest(self) -> str:
        """Return the digest of the whole file. Call it when every segment is complete."""
        self.catch_up()
        return self._sha.hexdigest()


def hash_file(path: Path) -> str:
    """Return a regular file's SHA-256; a symbolic link is not followed. Raises StoreError."""
    with (
        guarded(f"cannot read {path.name}"),
        os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering=0) as file,
    ):
        return hashlib.file_digest(file, "sha256").hexdigest()

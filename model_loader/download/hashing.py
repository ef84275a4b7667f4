"""SHA-256 of a file while its segments arrive in any order, in constant memory."""

import hashlib
import os
import threading
from pathlib import Path

from model_loader.atomic_files import guarded, open_file
from model_loader.download.part_file import PartFile

BLOCK = 1024 * 1024


class FollowingHash:
    """Hashes the contiguous prefix of a part file.

    The thread that writes at the end of the prefix passes its buffer; bytes that other threads wrote further
    ahead are read back (from the page cache) once the prefix reaches them. hashlib and pread release the GIL.
    """

    def __init__(self, part_file: PartFile) -> None:
        self._part_file = part_file
        self._sha = hashlib.sha256()
        self._hashed = 0
        self._lock = threading.Lock()

    def feed(self, offset: int, data: bytes) -> None:
        """Hash ``data``, just written at ``offset``, if the prefix reaches it and no thread is hashing."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._hashed < offset:
                self._advance(offset)
            if self._hashed == offset:
                self._sha.update(data)
                self._hashed += len(data)
        finally:
            self._lock.release()

    def catch_up(self) -> None:
        """Hash the contiguous bytes that are on disk. Raises StoreError when they cannot be read."""
        with self._lock:
            self._advance(self._part_file.layout.size)

    def _advance(self, limit: int) -> None:
        buffer = bytearray(BLOCK)
        view = memoryview(buffer)
        end = min(limit, self._part_file.contiguous(self._hashed))
        while self._hashed < end:
            with guarded(f"cannot read back {self._part_file.part.name}"):
                got = os.preadv(self._part_file.fd, [view[: min(BLOCK, end - self._hashed)]], self._hashed)
            if got == 0:
                return  # the part file was truncated; the final check of the size reports it
            self._sha.update(view[:got])
            self._hashed += got

    def hexdigest(self) -> str:
        """Return the digest of the whole file, once every segment is complete.

        Raises StoreError when the file cannot be read back.
        """
        self.catch_up()
        return self._sha.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a regular file; a symbolic link is not followed. Raises StoreError."""
    with (
        guarded(f"cannot read {path.name}"),
        os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering=0) as file,
    ):
        return hashlib.file_digest(file, "sha256").hexdigest()

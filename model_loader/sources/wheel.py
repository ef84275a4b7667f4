"""Finds one member's bytes in a remote wheel, read as a zip by ranges; nothing in it is run or unpacked."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from model_loader.errors import SourceError

BLOCK = 64 * 1024
MAX_DIRECTORY = 8 * 1024 * 1024  # bytes of a zip's directory; a wheel of parts has less than one KiB
_LOCAL = struct.Struct("<4s22sHH")  # signature, fields of no interest here, lengths of name and extra field
_ENCRYPTED = 0x1

ReadRange = Callable[[int, int], bytes]
"""Returns bytes [start, end) of the wheel."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a member is: ``packed`` bytes from ``offset``, which are ``size`` bytes of content."""

    offset: int
    packed: int
    size: int
    deflated: bool


class _Ranges(io.RawIOBase):
    """A wheel as the read-only file that zipfile wants; small reads share one request."""

    def __init__(self, read: ReadRange, size: int, name: str) -> None:
        self._read, self._size, self._name = read, size, name
        self._position = self._start = self._fetched = 0
        self._block = b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("negative position")
        self._position = base + offset
        return self._position

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        count = left if count < 0 else min(count, left)
        if not count:
            return b""
        if not (self._start <= self._position and self._position + count <= self._start + len(self._block)):
            self._load(count)
        begin = self._position - self._start
        self._position += count
        return self._block[begin : begin + count]

    def _load(self, count: int) -> None:
        start = min(self._position, max(0, self._size - BLOCK))
        end = min(self._size, max(self._position + count, start + BLOCK))
        self._fetched += end - start
        if self._fetched > MAX_DIRECTORY:
            raise SourceError(f"{self._name}: its zip directory exceeds {MAX_DIRECTORY} bytes.")
        self._start, self._block = start, self._read(start, end)


def locate(read: ReadRange, size: int, name: str, path: str) -> Extent:
    """Return where member ``path`` is in the wheel ``name`` of ``size`` bytes, which ``read`` reads.

    Raises SourceError for a damaged zip, a missing or encrypted member, and one that is neither stored nor
    deflated.
    """
    file = _Ranges(read, size, name)
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(path)
        file.seek(info.header_offset)
        signature, _, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    except KeyError:
        raise SourceError(f"{name} does not contain {path}.") from None
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise SourceError(f"{name} is truncated or not a wheel ({error}).") from None
    offset = info.header_offset + _LOCAL.size + name_length + extra_length
    if info.flag_bits & _ENCRYPTED or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise SourceError(f"{name}: {path} is encrypted, or packed in another way than deflate.")
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    inside = signature == b"PK\x03\x04" and offset + info.compress_size <= size
    if not inside or not (deflated or info.compress_size == info.file_size):
        raise SourceError(f"{name} is truncated or not a wheel (the header of {path} is wrong).")
    return Extent(offset, info.compress_size, info.file_size, deflated)

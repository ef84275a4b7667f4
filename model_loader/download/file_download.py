"""Downloads one file into a part file: ranges in parallel, with resume, hashed during the transfer."""

import os
from collections import deque
from pathlib import Path

from model_loader.atomic_files import guarded
from model_loader.download import sniff
from model_loader.download.hashing import FollowingHash
from model_loader.download.part_file import PartFile, SegmentLayout, discard, resume
from model_loader.download.segment import Context, SegmentDownloader, is_incomplete
from model_loader.download.workers import run_all
from model_loader.errors import ChangedError, IntegrityError, RangesError, SourceError
from model_loader.plan import WantedFile
from model_loader.retry import retrying
from model_loader.sources.protocols import Body, Segmented

MAX_RESTARTS = 4
EVIDENCE = 64 * 1024  # bytes of a rejected file that are kept until the run ends


class FileDownload:
    """The download of one file into ``part`` over at most ``connections`` connections."""

    def __init__(self, file: WantedFile, part: Path, context: Context, connections: int = 1) -> None:
        self._file = file
        self._part = part
        self._context = context
        self._connections = connections

    def run(self) -> WantedFile:
        """Download and verify the file; return it with its size and SHA-256.

        A file that does not match is downloaded once more. Raises a LoaderError; the part file is kept for a
        resume unless its content did not match.
        """
        try:
            return self._download()
        except IntegrityError as error:
            self._reject(error)
        try:
            return self._download()
        except IntegrityError as error:
            self._reject(error)
            raise

    def _reject(self, error: IntegrityError) -> None:
        self._context.reporter.event("refused", file=self._file.path, reason=str(error))
        with guarded(f"cannot set aside {self._part.name}"):
            if self._part.exists():
                self._part.replace(self._part.with_suffix(".rejected"))
                os.truncate(self._part.with_suffix(".rejected"), EVIDENCE)
        discard(self._part)

    def _download(self) -> WantedFile:
        whole = False
        for _ in range(MAX_RESTARTS):
            try:
                return self._transfer(whole=whole)
            except RangesError:
                whole = True
            except ChangedError as error:
                self._context.reporter.event("restart", file=self._file.path, reason=str(error))
            discard(self._part)
        raise SourceError(
            f"{self._file.path}: the file changes at the source during every try; try again later."
        )

    def _transfer(self, *, whole: bool) -> WantedFile:
        part_file = None
        if not whole:
            pinned = self._file.sha256 is not None
            part_file = resume(self._part, self._file.size, self._context.source.name, pinned=pinned)
        if part_file is None:
            size = self._file.size if self._file.size is not None else self._size_at_source()
            layout = SegmentLayout(size, max(1, size if whole else self._segment()))
            part_file = PartFile(self._part, layout, source=self._context.source.name)
        try:
            self._context.reporter.add(part_file.present())
            return self._fill(part_file, whole=whole)
        finally:
            part_file.close()

    def _segment(self) -> int:
        source, usual = self._context.source, self._context.limits.segment
        if not isinstance(source, Segmented):
            return usual
        return retrying(self._context.retry, lambda: source.segment(self._file.path, usual))

    def _size_at_source(self) -> int:
        body = retrying(self._context.retry, self._open_first_byte)
        try:
            if body.total is None:
                raise SourceError(
                    f"{self._file.path}: the source reports no size; add size and sha256 to the manifest."
                )
            return body.total
        finally:
            body.close()

    def _open_first_byte(self) -> Body:
        try:
            return self._context.source.open(self._file.path, 0, 1, None)
        except RangesError:  # an empty file has no first byte
            return self._context.source.open(self._file.path, 0, None, None)

    def _fill(self, part_file: PartFile, *, whole: bool) -> WantedFile:
        digest = FollowingHash(part_file)
        digest.catch_up()
        downloader = SegmentDownloader(self._file, part_file, digest, self._context, whole=whole)
        missing = deque(i for i in range(part_file.layout.count) if is_incomplete(part_file, i))
        connections = min(self._connections, len(missing))
        if connections <= 1 or whole:
            downloader.run(missing)
        else:
            run_all([lambda: downloader.run(missing)] * connections, connections, missing.clear)
        return self._verified(part_file, downloader.digest)

    def _verified(self, part_file: PartFile, digest: FollowingHash) -> WantedFile:
        sha256 = digest.hexdigest()
        if part_file.layout.size:
            sniff.check(self._file.path, os.pread(part_file.fd, sniff.HEAD, 0))
        if self._file.sha256 not in (None, sha256):
            raise IntegrityError(
                f"{self._file.path}: sha256 is {sha256}, expected {self._file.sha256}"
                f" (from {self._context.source.name})."
            )
        with guarded(f"cannot sync {self._part.name}"):
            os.fsync(part_file.fd)
        return WantedFile(self._file.path, part_file.layout.size, sha256)

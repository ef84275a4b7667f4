"""Takes files from a source into part files: ranges in parallel, resumed, hashed on the way."""

import os
from collections import deque
from pathlib import Path

from model_loader.atomic_files import guarded
from model_loader.download import part_file as parts
from model_loader.download import sniff
from model_loader.download.hashing import FollowingHash
from model_loader.download.part_file import Partial, SegmentLayout
from model_loader.download.segment import Context, SegmentDownloader, short
from model_loader.download.workers import run_all
from model_loader.errors import ChangedError, IntegrityError, RangesError, SourceError
from model_loader.plan import WantedFile
from model_loader.retry import retrying
from model_loader.sources.protocols import Body

MAX_RESTARTS = 4
EVIDENCE = 64 * 1024  # bytes of a refused file kept until the run ends


class FileDownload:
    """One file on its way into ``part``."""

    def __init__(self, wanted: WantedFile, part: Path, context: Context, lanes: int = 1) -> None:
        self._wanted = wanted
        self._part = part
        self._context = context
        self._lanes = lanes

    def run(self) -> WantedFile:
        """Return the file's facts once its bytes are proved; refused bytes are taken once more.

        Raises a LoaderError; the part file stays for a resume unless its bytes were refused.
        """
        try:
            return self._settle()
        except IntegrityError as error:
            self._reject(error)
        try:
            return self._settle()
        except IntegrityError as error:
            self._reject(error)
            raise

    def _reject(self, error: IntegrityError) -> None:
        self._context.reporter.event("refused", file=self._wanted.path, reason=str(error))
        with guarded(f"cannot set aside {self._part.name}"):
            if self._part.exists():
                self._part.replace(self._part.with_suffix(".rejected"))
                os.truncate(self._part.with_suffix(".rejected"), EVIDENCE)
        parts.discard(self._part)

    def _settle(self) -> WantedFile:
        whole = False
        for _ in range(MAX_RESTARTS):
            try:
                return self._transfer(whole=whole)
            except RangesError:
                whole = True
            except ChangedError as error:
                self._context.reporter.event("restart", file=self._wanted.path, reason=str(error))
            parts.discard(self._part)
        raise SourceError(
            f"{self._wanted.path}: the source gives another version at every try; try again later."
        )

    def _transfer(self, *, whole: bool) -> WantedFile:
        partial = None
        if not whole:
            partial = parts.resume(self._part, self._wanted.size, pinned=self._wanted.sha256 is not None)
        if partial is None:
            size = self._wanted.size if self._wanted.size is not None else self._probe()
            partial = Partial(
                self._part, SegmentLayout(size, max(1, size if whole else self._context.limits.segment))
            )
        try:
            self._context.reporter.add(partial.present())
            return self._fill(partial, whole=whole)
        finally:
            partial.close()

    def _probe(self) -> int:
        body = retrying(self._context.patience, self._open_anything)
        try:
            if body.total is None:
                raise SourceError(
                    f"{self._wanted.path}: the source tells no size; record size and sha256 in the manifest."
                )
            return body.total
        finally:
            body.close()

    def _open_anything(self) -> Body:
        try:
            return self._context.source.open(self._wanted.path, 0, 1, None)
        except RangesError:  # an empty file has no first byte
            return self._context.source.open(self._wanted.path, 0, None, None)

    def _fill(self, partial: Partial, *, whole: bool) -> WantedFile:
        digest = FollowingHash(partial)
        digest.catch_up()
        lane = SegmentDownloader(self._wanted, partial, digest, self._context, whole=whole)
        missing = deque(i for i in range(partial.shape.count) if short(partial, i))
        lanes = min(self._lanes, len(missing))
        if lanes <= 1 or whole:
            lane.work(missing)
        else:
            run_all([lambda: lane.work(missing)] * lanes, lanes, missing.clear)
        return self._judge(partial, lane.digest)

    def _judge(self, partial: Partial, digest: FollowingHash) -> WantedFile:
        found = digest.hexdigest()
        if partial.shape.size:
            sniff.check(self._wanted.path, os.pread(partial.fd, sniff.HEAD, 0))
        if self._wanted.sha256 not in (None, found):
            raise IntegrityError(f"{self._wanted.path}: sha256 is {found}, wanted {self._wanted.sha256}.")
        with guarded(f"cannot sync {self._part.name}"):
            os.fsync(partial.fd)
        return WantedFile(self._wanted.path, partial.shape.size, found)

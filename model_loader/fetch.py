"""Turns a plan into a published revision: checks the plan, downloads, verifies, publishes."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_loader import atomic_files
from model_loader import plan as plans
from model_loader.download.file_download import FileDownload
from model_loader.download.segment import Context, Limits
from model_loader.download.workers import run_all
from model_loader.errors import StoreError
from model_loader.plan import Plan, WantedFile
from model_loader.progress import Reporter
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources.fallback import first_that_works
from model_loader.sources.protocols import HubSource, Source
from model_loader.store import staging, verify
from model_loader.store.store import Manifest, Store, is_complete

MIB = 1024 * 1024


@dataclass(frozen=True)
class Options:
    """How to fetch.

    Attributes:
        allow_unpinned: accept files without a checksum; their content is then not verified.
        extra_formats: additional file suffixes that are accepted, such as ``.bin``.
        limits: connections, sizes and rates of the transfer.
        margin: bytes of disk space that must stay free.
        deep: re-hash files that are already published, and repair them.
        sweep_after_s: age in seconds after which the staging folders of dead runs are removed.

    """

    allow_unpinned: bool = False
    extra_formats: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    margin: int = 64 * MIB
    deep: bool = False
    sweep_after_s: float = 24 * 3600.0


@dataclass(frozen=True)
class Run:
    """The store, the options, the retry policy and the reporter of one run."""

    store: Store
    options: Options
    retry: RetryPolicy
    reporter: Reporter

    def context(self, source: Source, retry: RetryPolicy) -> Context:
        """Return the context for downloads from ``source``."""
        return Context(source, retry, self.options.limits, self.reporter)


def fetch(plan: Plan, sources: Sequence[Source], run: Run) -> Path:
    """Publish the revision that ``plan`` describes, switch ``current`` to it and return its folder.

    A published revision is not downloaded again, and no source is then contacted. Missing or damaged
    files of it are repaired one by one. After an error ``current`` is as it was, and the next run resumes
    from the downloaded bytes.

    Args:
        plan: the model, its revision and its files; the checksums decide what is accepted.
        sources: where the files are read from, in the order in which they are tried.
        run: the store, the options (sizes in bytes, times in seconds), the retry policy and the reporter.

    Raises:
        PlanError: the plan is invalid, or lacks checksums that the options require.
        SourceError: the source refuses or lacks a file; NoSourceError: each of several sources failed.
        TransientError: the source failed in every try.
        IntegrityError: a file does not match its checksum or its size.
        StoreError: the store is full or cannot be written.
        Stopped: the run was stopped, or its deadline passed.

    """
    options = run.options
    plans.check(plan, allow_unpinned=options.allow_unpinned, extra_formats=options.extra_formats)
    staging.sweep(run.store.root, options.sweep_after_s)
    if (folder := _present(plan, sources, run)) is None:
        folder = first_that_works(
            sources, run.retry, run.reporter, plan.files[0].path,
            lambda source, retry: _fetch_new(*enrich(plan, source, retry), run, retry),
        )  # fmt: skip
    run.store.switch(plan.model, folder.name)
    return folder


def _present(plan: Plan, sources: Sequence[Source], run: Run) -> Path | None:
    if (published := run.store.find(plan)) is None:
        return None
    folder, manifest = published
    if run.options.deep or not is_complete(folder, manifest):
        repair(folder, manifest, sources, run)
    staging.remove_leftovers(run.store.root / staging.STAGING / plan.digest)
    run.reporter.event("present", path=str(folder))
    return folder


def enrich(plan: Plan, source: Source, retry: RetryPolicy) -> tuple[Plan, Source]:
    """Return the plan with the hub's sizes and checksums of unpinned files, and the source at one commit.

    Sizes and checksums of the plan are not replaced. A source that is not a hub is returned unchanged.
    Raises TransientError or SourceError when the hub cannot be read.
    """
    if not plan.unpinned or not isinstance(source, HubSource):
        return plan, source
    commit, listed = retrying(retry, source.listing)
    files = tuple(f if f.sha256 else _filled(f, listed.get(f.path)) for f in plan.files)
    return dataclasses.replace(plan, files=files), source.at(commit)


def _filled(file: WantedFile, listed: WantedFile | None) -> WantedFile:
    if listed is None:
        return file
    return WantedFile(file.path, file.size if file.size is not None else listed.size, listed.sha256)


def _fetch_new(plan: Plan, source: Source, run: Run, retry: RetryPolicy) -> Path:
    with staging.workspace(run.store.root, plan.digest, run.retry) as work:
        published = run.store.find(plan)
        if published and is_complete(*published):  # another loader finished while this one waited
            return published[0]
        check_space(plan, work, run)
        run.reporter.event(
            "start", model=plan.model, revision=plan.revision, source=source.name, files=len(plan.files)
        )
        files = download_all(plan.files, work, run.context(source, retry))
        for file in files:
            work.place(part_of(work, file), file.path)
        folder = run.store.publish(work, Manifest(plan.model, plan.revision, source.name, tuple(files), {}))
    run.reporter.event("published", path=str(folder))
    return folder


def part_of(work: staging.Workspace, file: WantedFile) -> Path:
    """Return the path of the part file: a hash of the name, so that no name is too long with a suffix."""
    return work.parts / f"{hashlib.sha256(file.path.encode()).hexdigest()[:32]}.part"


def download_all(
    files: tuple[WantedFile, ...], work: staging.Workspace, context: Context
) -> list[WantedFile]:
    """Download every file into its part file, the largest first, large files over several connections.

    Returns the files with their size and SHA-256. Raises a LoaderError for the first file that fails.
    """
    limits = context.limits
    context.reporter.expect(sum(f.size or 0 for f in files))
    large = sum(1 for f in files if (f.size or 0) >= 2 * limits.segment)
    per_file = max(1, limits.connections // max(1, min(large, limits.connections)))
    ordered = sorted(files, key=lambda f: -(f.size or 0))
    tasks = [
        functools.partial(_one, FileDownload(file, part_of(work, file), context, per_file), work)
        for file in ordered
    ]
    return run_all(tasks, min(limits.connections, len(tasks)), context.retry.stop.set)


def _one(download: FileDownload, work: staging.Workspace) -> WantedFile:
    work.check_owned()
    return download.run()


def check_space(plan: Plan, work: staging.Workspace, run: Run) -> None:
    """Raise StoreError when the rest of the download and the margin do not fit on the disk."""
    with atomic_files.guarded("cannot determine the free space"):
        facts = os.statvfs(work.folder)
        allocated = {part.name: part.stat().st_blocks * 512 for part in work.parts.glob("*.part")}
    need = (
        sum(max(0, (f.size or 0) - allocated.get(part_of(work, f).name, 0)) for f in plan.files)
        + run.options.margin
    )
    free = facts.f_bavail * facts.f_frsize
    if need > free:
        raise StoreError(
            f"not enough space in {run.store.root}: {need / MIB:.0f} MiB needed (including"
            f" {run.options.margin / MIB:.0f} MiB margin), {free / MIB:.0f} MiB free,"
            f" {(need - free) / MIB:.0f} MiB missing. Free space, or run `model-loader prune`.",
            full=not allocated,
        )
    if facts.f_files and facts.f_favail < 2 * len(plan.files) + 8:
        raise StoreError(
            f"not enough inodes in {run.store.root}: {facts.f_favail} free. Remove files.", full=not allocated
        )


def repair(folder: Path, manifest: Manifest, sources: Sequence[Source], run: Run) -> list[verify.Fault]:
    """Re-hash ``folder``, download damaged files again, and return the faults that were found.

    Each file is replaced atomically: a process that has mapped the old file keeps it, and an intact file is
    never absent. Raises a LoaderError when a file cannot be downloaded or replaced.
    """
    faults = verify.check(folder, manifest)
    damaged = {f.path for f in faults if f.kind in verify.REFETCH}
    files = tuple(f for f in manifest.files if f.path in damaged)
    if files:
        plan = Plan(manifest.model, manifest.revision, files)
        with staging.workspace(run.store.root, plan.digest, run.retry) as work:
            check_space(plan, work, run)
            downloaded = first_that_works(
                sources, run.retry, run.reporter, plan.files[0].path,
                lambda source, retry: download_all(files, work, run.context(source, retry)),
            )  # fmt: skip
            for file in downloaded:
                work.place(part_of(work, file), file.path)
                verify.replace(work.tree / file.path, folder, file.path)
    verify.tidy(folder, faults)
    for fault in faults:
        run.reporter.event("mended", file=fault.path, was=fault.kind)
    return faults

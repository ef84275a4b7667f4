"""From a plan to a published revision: look, check, download, verify, publish."""

import dataclasses
import functools
import hashlib
import os
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
from model_loader.sources.protocols import HubSource, Source
from model_loader.store import staging, verify
from model_loader.store.store import Manifest, Store, is_whole

MIB = 1024 * 1024


@dataclass(frozen=True)
class Options:
    """How to fetch. ``margin`` is free space in bytes to leave; ``deep`` re-hashes what is already there."""

    allow_unpinned: bool = False
    extra_formats: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    margin: int = 64 * MIB
    deep: bool = False
    sweep_after_s: float = 24 * 3600.0


@dataclass(frozen=True)
class Run:
    """What one run works with."""

    store: Store
    options: Options
    patience: RetryPolicy
    reporter: Reporter

    def context(self, source: Source) -> Context:
        """Return what the transfer of files needs."""
        return Context(source, self.patience, self.options.limits, self.reporter)


def fetch(plan: Plan, source: Source, run: Run) -> Path:
    """Return the folder of the published revision; one already there costs no contact with the source.

    A damaged one is mended file by file. Raises a LoaderError; ``current`` is then as it was.
    """
    options = run.options
    plans.check(plan, allow_unpinned=options.allow_unpinned, extra_formats=options.extra_formats)
    staging.sweep(run.store.root, options.sweep_after_s)
    if (folder := _present(plan, source, run)) is None:
        complete, origin = enrich(plan, source, run.patience)
        folder = _fetch_new(complete, origin, run)
    run.store.switch(plan.model, folder.name)
    return folder


def _present(plan: Plan, source: Source, run: Run) -> Path | None:
    if (found := run.store.find(plan)) is None:
        return None
    folder, manifest = found
    if run.options.deep or not is_whole(folder, manifest):
        mend(folder, manifest, source, run)
    staging.forget(run.store.root / staging.STAGING / plan.digest)
    run.reporter.event("present", path=str(folder))
    return folder


def enrich(plan: Plan, source: Source, patience: RetryPolicy) -> tuple[Plan, Source]:
    """Return the plan with what a hub says of files the plan knows nothing of, bound to one commit.

    Pinned facts are never replaced. A source that is no hub is returned as it is.
    """
    if not plan.unpinned or not isinstance(source, HubSource):
        return plan, source
    commit, listed = retrying(patience, source.listing)
    files = tuple(f if f.sha256 else _filled(f, listed.get(f.path)) for f in plan.files)
    return dataclasses.replace(plan, files=files), source.at(commit)


def _filled(file: WantedFile, said: WantedFile | None) -> WantedFile:
    if said is None:
        return file
    return WantedFile(file.path, file.size if file.size is not None else said.size, said.sha256)


def _fetch_new(plan: Plan, source: Source, run: Run) -> Path:
    with staging.workspace(run.store.root, plan.digest, run.patience) as work:
        found = run.store.find(plan)
        if found and is_whole(*found):  # another loader finished while this one waited
            return found[0]
        check_space(plan, work, run)
        run.reporter.event(
            "start", model=plan.model, revision=plan.revision, source=source.name, files=len(plan.files)
        )
        files = download_all(plan.files, work, run.context(source))
        for file in files:
            work.place(part_of(work, file), file.path)
        folder = run.store.publish(work, Manifest(plan.model, plan.revision, source.name, tuple(files), {}))
    run.reporter.event("published", path=str(folder))
    return folder


def part_of(work: staging.Workspace, file: WantedFile) -> Path:
    """Return the part file's path: a hash of the name, so that no name is too long with a suffix."""
    return work.parts / f"{hashlib.sha256(file.path.encode()).hexdigest()[:32]}.part"


def download_all(
    files: tuple[WantedFile, ...], work: staging.Workspace, context: Context
) -> list[WantedFile]:
    """Bring every file into its part, largest first, big ones over several connections."""
    limits = context.limits
    context.reporter.expect(sum(f.size or 0 for f in files))
    big = sum(1 for f in files if (f.size or 0) >= 2 * limits.segment)
    lanes = max(1, limits.connections // max(1, min(big, limits.connections)))
    ordered = sorted(files, key=lambda f: -(f.size or 0))
    jobs = [
        functools.partial(_one, FileDownload(file, part_of(work, file), context, lanes), work)
        for file in ordered
    ]
    return run_all(jobs, min(limits.connections, len(jobs)), context.patience.stop.set)


def _one(download: FileDownload, work: staging.Workspace) -> WantedFile:
    work.check_owned()
    return download.run()


def check_space(plan: Plan, work: staging.Workspace, run: Run) -> None:
    """Refuse to begin when the rest of the download and the margin do not fit. Raises StoreError."""
    with atomic_files.guarded("cannot ask for free space"):
        facts = os.statvfs(work.folder)
        have = {part.name: part.stat().st_blocks * 512 for part in work.parts.glob("*.part")}
    need = (
        sum(max(0, (f.size or 0) - have.get(part_of(work, f).name, 0)) for f in plan.files)
        + run.options.margin
    )
    free = facts.f_bavail * facts.f_frsize
    if need > free:
        raise StoreError(
            f"not enough space in {run.store.root}: {need / MIB:.0f} MiB needed, of it"
            f" {run.options.margin / MIB:.0f} margin; {free / MIB:.0f} MiB free,"
            f" {(need - free) / MIB:.0f} MiB missing.",
            full=not have,
        )
    if facts.f_files and facts.f_favail < 2 * len(plan.files) + 8:
        raise StoreError(f"not enough inodes in {run.store.root}: {facts.f_favail} free.", full=not have)


def mend(folder: Path, manifest: Manifest, source: Source, run: Run) -> list[verify.Fault]:
    """Re-hash ``folder`` and fetch the bad files again, each replaced in one step. Return what was wrong.

    Readers keep what they have mapped; the folder never lacks a file that was good.
    """
    faults = verify.check(folder, manifest)
    bad = {f.path for f in faults if f.kind in verify.REFETCH}
    files = tuple(f for f in manifest.files if f.path in bad)
    if files:
        plan = Plan(manifest.model, manifest.revision, files)
        with staging.workspace(run.store.root, plan.digest, run.patience) as work:
            check_space(plan, work, run)
            for file in download_all(files, work, run.context(source)):
                work.place(part_of(work, file), file.path)
                verify.replace(work.tree / file.path, folder, file.path)
    verify.tidy(folder, faults)
    for fault in faults:
        run.reporter.event("mended", file=fault.path, was=fault.kind)
    return faults

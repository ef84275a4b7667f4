"""What the commands ``fetch`` and ``import`` do once their options are read."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from model_loader import atomic_files, conversion, fetch
from model_loader import plan as plans
from model_loader.download.segment import Limits
from model_loader.errors import PlanError
from model_loader.plan import Plan
from model_loader.progress import Reporter
from model_loader.retry import RetryPolicy
from model_loader.sources import archive
from model_loader.sources.protocols import Source
from model_loader.store.store import Store


@dataclass
class Setup:
    """A command's options; ``knobs`` as of ``flags.knobs``."""

    store: Path
    knobs: dict[str, float]
    allow_unpinned: bool
    formats: list[str] | None = field(default=None)
    deep: bool = False

    def run(self, reporter: Reporter) -> fetch.Run:
        """Return the run; its deadline counts from now."""
        k = self.knobs
        limits = Limits(int(k["connections"]), int(k["segment-kib"]) * 1024, k["min-rate"], k["stall"])
        margin = int(k["margin-mib"]) * fetch.MIB
        options = fetch.Options(self.allow_unpinned, frozenset(self.formats or ()), limits, margin, self.deep)

        def retry(message: str, delay: float) -> None:
            reporter.event("retry", reason=message, in_s=round(delay, 3))

        end = time.monotonic() + k["deadline"]
        patience = RetryPolicy(int(k["tries"]), cap_s=k["wait-cap"], deadline=end, on_retry=retry)
        return fetch.Run(Store(self.store), options, patience, reporter)


def wanted(model: str, revision: str | None, manifest: Path | None) -> Plan:
    """Return the plan of a manifest file or of the catalogue. Raises PlanError."""
    if manifest is None:
        return plans.from_catalogue(model, revision)
    return _renamed(plans.read_manifest(manifest), model, revision)


def _renamed(plan: Plan, model: str, revision: str | None) -> Plan:
    if plan.model != model or revision not in (None, plan.revision):
        asked = model if revision is None else f"{model}@{revision}"
        raise PlanError(
            f"the manifest is of {plan.model}@{plan.revision}, not of {asked}; name the right one."
        )
    return plan


def wanted_of_bundle(
    model: str, revision: str | None, manifest: Path | None, bundle: Path, source: Source, *, trust: bool
) -> Plan:
    """Return the plan of a manifest file, else the pinned catalogue's, else the bundle's own.

    The bundle's own checksums prove that it arrived whole, not who made it: they need ``trust``.
    """
    if manifest is not None:
        return wanted(model, revision, manifest)
    try:
        known = plans.from_catalogue(model, revision)
    except PlanError:
        known = None
    if known is not None and not known.unpinned:
        return known
    plan = archive.bundle_plan(bundle, source, model, revision or "imported")
    plan = Plan(model, revision or plan.revision, plan.files)
    if not trust:
        raise PlanError(
            f"nothing here vouches for {bundle.name}: pin {model!r} in the catalogue, pass --manifest"
            " with checksums from somebody you trust, or --allow-unpinned."
        )
    return plan


def carry_out(
    plan: Plan, source: Source, run: fetch.Run, variant: tuple[str | None, str | None], *, dry_run: bool
) -> None:
    """Fetch, convert where asked, and report the path to serve from."""
    runtime, precision = variant
    if dry_run:
        _foretell(plan, source, run)
        return
    atomic_files.make_folder(run.store.root)
    folder = fetch.fetch(plan, source, run)
    if runtime is not None and precision is not None:
        folder = conversion.convert(folder, runtime, precision, run)
    run.reporter.event("done", path=str(folder))


def _foretell(plan: Plan, source: Source, run: fetch.Run) -> None:
    options = run.options
    plans.check(plan, allow_unpinned=options.allow_unpinned, extra_formats=options.extra_formats)
    found = run.store.find(plan)
    files = [f.path for f in plan.files]
    size = sum(f.size or 0 for f in plan.files)
    facts = {
        "model": plan.model,
        "revision": plan.revision,
        "source": source.name,
        "files": files,
        "bytes": size,
    }
    run.reporter.event("would fetch" if found is None else "present", **facts)

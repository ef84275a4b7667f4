"""What the commands ``fetch`` and ``import`` do once their options are read."""

import time
from collections.abc import Sequence
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
    """The options of a command; ``tuning`` as ``options.tuning`` returns it."""

    store: Path
    tuning: dict[str, float]
    allow_unpinned: bool
    formats: list[str] | None = field(default=None)
    deep: bool = False

    def run(self, reporter: Reporter) -> fetch.Run:
        """Return the run; its deadline counts from now."""
        tuning = self.tuning
        limits = Limits(
            connections=int(tuning["connections"]),
            segment=int(tuning["segment-kib"]) * 1024,
            min_rate=tuning["min-rate"],
            window_s=tuning["stall"],
        )
        options = fetch.Options(
            allow_unpinned=self.allow_unpinned,
            extra_formats=frozenset(self.formats or ()),
            limits=limits,
            margin=int(tuning["margin-mib"]) * fetch.MIB,
            deep=self.deep,
        )

        def report_retry(message: str, delay: float) -> None:
            reporter.event("retry", reason=message, in_s=round(delay, 3))

        end = time.monotonic() + tuning["deadline"]
        retry = RetryPolicy(
            int(tuning["tries"]), cap_s=tuning["wait-cap"], deadline=end, on_retry=report_retry
        )
        return fetch.Run(Store(self.store), options, retry, reporter)


def check_licence(model: str, accepted: str | None) -> None:
    """Refuse a model of the catalogue that is not free for commercial use unless its licence is ``accepted``.

    Raises PlanError with the remedy, also for the acceptance of a licence that is not the model's.
    """
    from stackfile.catalogue import models
    from stackfile.licence_checks import refusal

    facts = models().get(model)
    message = facts and refusal(model, facts, accepted, "--accept-licence ")
    if message:
        raise PlanError(f"{message}.")


def plan_for(model: str, revision: str | None, manifest: Path | None) -> Plan:
    """Return the plan of a manifest file, or of the catalogue if None. Raises PlanError."""
    if manifest is None:
        return plans.from_catalogue(model, revision)
    plan = plans.read_manifest(manifest)
    if plan.model != model or revision not in (None, plan.revision):
        expected = model if revision is None else f"{model}@{revision}"
        raise PlanError(
            f"the manifest describes {plan.model}@{plan.revision}, not {expected}; pass another manifest."
        )
    return plan


def plan_for_import(
    model: str, revision: str | None, manifest: Path | None, path: Path, source: Source, *, trust: bool
) -> Plan:
    """Return the plan of a manifest file, else the pinned catalogue's, else that of the imported files.

    ``path`` is the folder or tar file that is imported and ``source`` reads it. Checksums from inside prove
    that it is complete, not who made it: they need ``trust``. Raises PlanError without ``trust``, and when a
    manifest is invalid.
    """
    if manifest is not None:
        return plan_for(model, revision, manifest)
    try:
        plan = plans.from_catalogue(model, revision)
    except PlanError:
        plan = None
    if plan is not None and not plan.unpinned:
        return plan
    plan = archive.import_plan(path, source, model, revision or "imported")
    plan = Plan(model, revision or plan.revision, plan.files)
    if not trust:
        raise PlanError(
            f"{path.name} has no trusted checksums: pin {model!r} in the catalogue, pass --manifest with"
            " checksums from a trusted source, or use --allow-unpinned."
        )
    return plan


def run_fetch(
    plan: Plan,
    sources: Sequence[Source],
    run: fetch.Run,
    variant: tuple[str | None, str | None],
    *,
    dry_run: bool,
) -> None:
    """Fetch ``plan``, convert it for ``variant`` (runtime, precision) and report the path to serve from.

    A dry run reports what would be fetched. Raises a LoaderError; ``current`` is then as it was.
    """
    runtime, precision = variant
    if dry_run:
        _dry_run(plan, sources, run)
        return
    if runtime is not None and run.store.find(plan) is None:
        conversion.check_readable(plan)
    atomic_files.make_folder(run.store.root)
    folder = fetch.fetch(plan, sources, run)
    if runtime is not None and precision is not None:
        folder = conversion.convert(folder, runtime, precision, run)
    run.reporter.event("done", path=str(folder))


def _dry_run(plan: Plan, sources: Sequence[Source], run: fetch.Run) -> None:
    options = run.options
    plans.check(plan, allow_unpinned=options.allow_unpinned, extra_formats=options.extra_formats)
    run.reporter.event(
        "would fetch" if run.store.find(plan) is None else "present",
        model=plan.model,
        revision=plan.revision,
        sources=[source.name for source in sources],
        files=[f.path for f in plan.files],
        bytes=sum(f.size or 0 for f in plan.files),
    )

"""What the commands ``verify``, ``list`` and ``prune`` do."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model_loader import conversion, fetch
from model_loader.errors import PlanError
from model_loader.plan import MANIFEST
from model_loader.sources.protocols import Source
from model_loader.store import staging
from model_loader.store import store as stores
from model_loader.store import verify as verification
from model_loader.store.store import Store

SourceFactory = Callable[[str, str], Sequence[Source]]
"""Returns the sources of a model id and a revision."""


def select(store: Store, model: str | None) -> list[str]:
    """Return ``[model]``, or every model of the store if None. Raises PlanError if the store lacks it."""
    models = store.models()
    if model is not None and model not in models:
        raise PlanError(
            f"{store.root} does not contain model {model!r}; its models: {', '.join(models) or 'none'}."
        )
    return models if model is None else [model]


def verify(model: str, run: fetch.Run, sources_of: SourceFactory | None) -> bool:
    """Re-hash every revision of ``model`` and return whether all of them are intact in the end.

    With ``sources_of``, damaged files are downloaded again, and a damaged conversion is made again. Raises a
    LoaderError if a download or a conversion fails.
    """
    all_intact = True
    for folder in run.store.revisions(model):
        manifest = stores.read(folder)
        if manifest is None:
            run.reporter.event("bad", model=model, revision=folder.name, file=MANIFEST, kind="manifest")
            all_intact = False
            continue
        faults = verification.check(folder, manifest)
        for fault in faults:
            facts = {"file": fault.path, "kind": fault.kind, "detail": fault.detail}
            run.reporter.event("bad", model=model, revision=folder.name, **facts)
        if faults and sources_of is not None and not manifest.extra:
            fetch.repair(folder, manifest, sources_of(model, manifest.revision), run)
            faults = verification.check(folder, manifest)
        elif faults and sources_of is not None:
            faults = _convert_again(folder, manifest, run)
        run.reporter.event("verified", model=model, revision=folder.name, well=not faults)
        all_intact = all_intact and not faults
    return all_intact


def _convert_again(folder: Path, manifest: stores.Manifest, run: fetch.Run) -> list[verification.Fault]:
    """Replace a damaged conversion by a new one of the same source; where its tool is missing, remove it.

    ``verify`` has repaired the source before, as a conversion's name begins with its source's.
    """
    base = run.store.folder(manifest.model) / str(manifest.extra["converted_from"]["folder"])
    runtime, precision = str(manifest.extra["runtime"]), str(manifest.extra["precision"])
    run.store.withdraw(folder)
    if not conversion.is_installed(runtime):
        run.reporter.event(
            "removed", model=manifest.model, revision=folder.name, do="the next start converts it"
        )
        return []
    made = conversion.convert(base, runtime, precision, run)
    again = stores.read(made)
    return verification.check(made, again) if again else [verification.Fault(MANIFEST, "missing", "")]


def rows(store: Store, model: str | None) -> Iterator[dict[str, Any]]:
    """Yield one row per revision: size in bytes, digest, source and the links that point to it.

    Raises PlanError if the store does not contain ``model``.
    """
    for name in select(store, model):
        links = store.links(name)
        for folder in store.revisions(name):
            manifest = stores.read(folder)
            yield {
                "model": name,
                "revision": folder.name,
                "bytes": sum(f.size or 0 for f in manifest.files) if manifest else None,
                "digest": manifest.digest if manifest else None,
                "source": manifest.source if manifest else None,
                "whole": manifest is not None and stores.is_complete(folder, manifest),
                "named_by": sorted(link for link, target in links.items() if target == folder.name),
            }


def prune(
    store: Store, model: str | None, older_than_s: float, *, dry_run: bool
) -> Iterator[tuple[str, str]]:
    """Remove unreferenced revisions and the staging folders of dead runs; yield (model, revision) of each.

    Raises PlanError if the store does not contain ``model``, and StoreError if a folder cannot be removed.
    """
    if not dry_run:
        for name in staging.sweep(store.root, older_than_s):
            yield ".staging", name
    for name in select(store, model):
        for revision in store.prune(name, older_than_s=older_than_s, dry_run=dry_run):
            yield name, revision

"""What the commands ``verify``, ``list`` and ``prune`` do."""

from collections.abc import Callable, Iterator
from typing import Any

from model_loader import fetch
from model_loader.errors import PlanError
from model_loader.sources.protocols import Source
from model_loader.store import staging
from model_loader.store import store as stores
from model_loader.store import verify as proofs
from model_loader.store.store import Store

Origin = Callable[[str, str], Source]


def chosen(store: Store, model: str | None) -> list[str]:
    """Return the named model, or all of the store. Raises PlanError when there is none."""
    known = store.models()
    if model is not None and model not in known:
        raise PlanError(f"{store.root} holds no model {model!r}; it holds: {', '.join(known) or 'nothing'}.")
    return known if model is None else [model]


def verify(model: str, run: fetch.Run, origin: Origin | None) -> bool:
    """Re-hash every revision of ``model``, mend them when ``origin`` is given, and say whether all is well.

    A converted variant is not downloadable, so its repair is a new conversion.
    """
    well = True
    for folder in run.store.revisions(model):
        manifest = stores.read(folder)
        if manifest is None:
            run.reporter.event(
                "bad", model=model, revision=folder.name, file=stores.MANIFEST, kind="manifest"
            )
            well = False
            continue
        faults = proofs.check(folder, manifest)
        for fault in faults:
            facts = {"file": fault.path, "kind": fault.kind, "detail": fault.detail}
            run.reporter.event("bad", model=model, revision=folder.name, **facts)
        if faults and origin is not None and not manifest.extra:
            fetch.mend(folder, manifest, origin(model, manifest.revision), run)
            faults = proofs.check(folder, manifest)
        elif faults and manifest.extra:
            run.reporter.event(
                "remedy", model=model, revision=folder.name, do="prune or remove it, then fetch again"
            )
        run.reporter.event("verified", model=model, revision=folder.name, well=not faults)
        well = well and not faults
    return well


def rows(store: Store, model: str | None) -> Iterator[dict[str, Any]]:
    """Yield one row per revision: size in bytes, digest, source and the links that name it."""
    for name in chosen(store, model):
        links = store.links(name)
        for folder in store.revisions(name):
            manifest = stores.read(folder)
            yield {
                "model": name,
                "revision": folder.name,
                "bytes": sum(f.size or 0 for f in manifest.files) if manifest else None,
                "digest": manifest.digest if manifest else None,
                "source": manifest.source if manifest else None,
                "whole": manifest is not None and stores.is_whole(folder, manifest),
                "named_by": sorted(link for link, target in links.items() if target == folder.name),
            }


def prune(
    store: Store, model: str | None, older_than_s: float, *, dry_run: bool
) -> Iterator[tuple[str, str]]:
    """Remove unnamed revisions and dead staging; yield (model, revision) of each."""
    if not dry_run:
        for name in staging.sweep(store.root, older_than_s):
            yield ".staging", name
    for name in chosen(store, model):
        for revision in store.prune(name, older_than_s=older_than_s, dry_run=dry_run):
            yield name, revision

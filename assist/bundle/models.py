"""The model's files, from the model loader: complete and with the catalogue's checksums."""

import os
from pathlib import Path

from assist.bundle.errors import BundleError
from assist.paths import Paths
from model_loader import atomic_files, commands, fetch, options, plan
from model_loader.errors import LoaderError
from model_loader.progress import Reporter
from model_loader.sources.factory import make_sources
from model_loader.sources.transport import HttpOptions
from model_loader.store import verify
from model_loader.store.store import Store
from stackfile.resolved import ResolvedModel


def gather(model: ResolvedModel, layout: Paths, reporter: Reporter) -> dict[str, Path]:
    """Return the model's files by their path in the bundle. Raises BundleError for a model without checksums.

    Files that ``make up`` has fetched are reused; others go to a cache, never to the store in use.
    """
    try:
        planned = plan.from_catalogue(model.id, model.revision)
        plan.check(planned, allow_unpinned=False)
        folder = _stored(planned, layout) or _fetched(planned, reporter)
    except LoaderError as error:
        raise BundleError(f"the model can't be bundled: {error}") from error
    return {f"models/{model.id}/{file.path}": folder / file.path for file in planned.files}


def _stored(planned: plan.Plan, layout: Paths) -> Path | None:
    stored = Store(layout.store).find(planned)
    return stored[0] if stored and not verify.check(*stored) else None


def _fetched(planned: plan.Plan, reporter: Reporter) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-assist" / "models"
    run = commands.Setup(cache, options.tuning(None), allow_unpinned=False, deep=True).run(reporter)
    sources = make_sources(
        None, planned.model, planned.revision, HttpOptions(), None, run.options.limits.connections
    )
    atomic_files.make_folder(cache)
    return fetch.fetch(planned, sources, run)

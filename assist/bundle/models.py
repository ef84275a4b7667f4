"""The model's files, taken through the loader: complete and of the catalogue's checksums, or refused."""

import os
from pathlib import Path

from assist.bundle.errors import BundleError
from assist.paths import Paths
from model_loader import atomic_files, commands, fetch, options, plan
from model_loader.errors import LoaderError
from model_loader.progress import Reporter
from model_loader.sources.factory import make_source
from model_loader.sources.transport import HttpOptions
from model_loader.store import verify
from model_loader.store.store import Store
from stackfile.resolved import Model


def gather(model: Model, layout: Paths, reporter: Reporter) -> dict[str, Path]:
    """Return the model's files by their path in the bundle. Raises BundleError where it has no checksums.

    What ``make up`` has fetched is used again; anything else goes to a cache, never to the store in use.
    """
    try:
        wanted = plan.from_catalogue(model.id, model.revision)
        plan.check(wanted, allow_unpinned=False)
        folder = _stored(wanted, layout) or _fetched(wanted, reporter)
    except LoaderError as error:
        raise BundleError(f"the model can't be bundled: {error}") from error
    return {f"models/{model.id}/{file.path}": folder / file.path for file in wanted.files}


def _stored(wanted: plan.Plan, layout: Paths) -> Path | None:
    found = Store(layout.store).find(wanted)
    return found[0] if found and not verify.check(*found) else None


def _fetched(wanted: plan.Plan, reporter: Reporter) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-assist" / "models"
    run = commands.Setup(cache, options.tuning(None), allow_unpinned=False, deep=True).run(reporter)
    source = make_source(
        None, wanted.model, wanted.revision, HttpOptions(), None, run.options.limits.connections
    )
    atomic_files.make_folder(cache)
    return fetch.fetch(wanted, source, run)

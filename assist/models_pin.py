"""``assist models pin``: the checksums of a model's files, as its hub has them."""

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from assist import catalogue_writer
from assist.options import Json
from assist.terminal import fail, out
from model_loader.errors import LoaderError, ModelError, TransientError
from model_loader.inspection import repository
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources import pin as pins
from model_loader.sources.protocols import HubSource
from stackfile import StackFileError, catalogue
from stackfile.catalogue import ModelFacts
from stackfile.model_sources import ModelSource

# A user waits: a hub that cannot be reached is to be said soon.
_TRIES = 3
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be recorded, and change nothing.")]


@dataclass(frozen=True)
class _Found:
    """Where a model's files are: the hub at one commit, their names, the format, and what to know of it."""

    hub: HubSource
    paths: list[str]
    format: str
    note: str = ""


def pin(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit. Default: the catalogue's own.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch the checksums of a model's files from the hub and record them in the catalogue, for review.

    From then on the catalogue, not the hub, decides what is served. What the hub has is recorded:
    safetensors, one file or all shards; else those of the newest pull request that adds them; else pickled
    weights, whose conversion takes torch, in an environment of its own. HF_ENDPOINT and HF_TOKEN apply.

    Example: assist models pin codegen-350M-mono
    """
    facts, place = _entry(model)
    requested = revision or place.revision or facts.revision
    retry = RetryPolicy(_TRIES, cap_s=5.0)
    try:
        hub = pins.hub(str(place.hub), requested)
        found = _found(hub, facts, retry)
        resolved = pins.resolve(found.hub, found.paths, requested, retry)
        pinned = catalogue_writer.Pin(resolved.revision, resolved.files, found.format)
        changed = catalogue_writer.record(catalogue.file_of(model), model, pinned, dry_run=dry_run)
    except TransientError as error:
        fail(_what_to_do(hub, model, facts, str(error)))
    except (LoaderError, catalogue_writer.CatalogueError) as error:
        fail(str(error))
    _report(model, found, pinned, changed=changed, dry_run=dry_run, as_json=as_json)


def _entry(model: str) -> tuple[ModelFacts, ModelSource]:
    """Return the facts of a model and its hub; exit with the reason where there is none."""
    try:
        entries = catalogue.models()
    except StackFileError as error:
        fail(str(error))
    if model not in entries:
        fail(f"{model!r} is not in the catalogue; {catalogue.unknown_model(model, entries)}")
    facts = entries[model]
    if facts.hub is None:
        fail(f"{model} has no hub among its sources; the catalogue already has its checksums.")
    return facts, facts.hub


def _found(hub: HubSource, facts: ModelFacts, retry: RetryPolicy) -> _Found:
    """Return the entry's files, else what the repository has instead.

    Raises ModelError where it has nothing that can be served, else as the hub.
    """
    commit, listed = retrying(retry, hub.listing)
    at, wanted = hub.at(commit), [file.path for file in facts.files]
    if facts.format == "gguf" or (facts.format == "safetensors" and all(path in listed for path in wanted)):
        return _Found(at, wanted, facts.format)
    sizes = repository.known_sizes(listed)
    if weights := repository.safetensors(at, sizes):
        return _Found(at, repository.documents(listed, weights), "safetensors")
    if found := repository.conversion(hub, retry):
        pulled = hub.at(found.commit)
        weights = repository.safetensors(pulled, repository.known_sizes(found.files))
        note = f"{found.reference} has safetensors, which {commit[:12]} has not."
        return _Found(pulled, repository.documents(found.files, weights), "safetensors", note)
    if weights := repository.pickled(at, sizes):
        note = (
            f"{hub.name} has pickled weights only, and no pull request with safetensors. Converting them"
            " takes torch, in an environment of its own (2.3 GiB to download)."
        )
        return _Found(at, repository.documents(listed, weights), "pickle", note)
    others = ", ".join(repository.pickles(listed)[:3])
    raise ModelError(
        f"{hub.name} has neither safetensors, on this revision or in its pull requests, nor"
        f" {repository.PICKLED_SINGLE}{f' (other pickles, {others}, are not read)' if others else ''}. Pin"
        " another --revision, or add a GGUF file of the model (assist models add)."
    )


def _report(
    model: str, found: _Found, pinned: catalogue_writer.Pin, *, changed: bool, dry_run: bool, as_json: bool
) -> None:
    state = ("would be pinned" if dry_run else "pinned") if changed else "already pinned"
    files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in pinned.files]
    if as_json:
        record = {"model": model, "status": state, "revision": pinned.revision, "format": pinned.format}
        typer.echo(json.dumps(record | {"files": files, "note": found.note}, indent=1))
        return
    if found.note:
        out.print(found.note, highlight=False, soft_wrap=True)
    if dry_run:
        for file in files:
            out.print(
                f"{file['path']}: {file['size']} bytes, sha256 {file['sha256']}",
                highlight=False,
                soft_wrap=True,
            )
    said = {"pinned": "is pinned", "already pinned": "was pinned already"}.get(state, state)
    out.print(
        f"{model} {said}{f' to {pinned.revision}' if changed else ''}.", highlight=False, soft_wrap=True
    )


def _what_to_do(hub: HubSource, model: str, facts: ModelFacts, cause: str) -> str:
    """Return what a user without the hub can do."""
    addresses = "\n".join(f"  {hub.url(file.path)}" for file in facts.files)
    source = f"FOLDER/{facts.files[0].path}" if facts.format == "gguf" else "FOLDER"
    add = (
        "bring them here into one folder, and let them be read and hashed:\n"
        f"  assist models add {source} --name {model} --licence {facts.licence} --replace\n"
    )
    return (
        f"The hub can't be reached from here ({cause}); nothing was changed.\n"
        "With a mirror of the hub: set HF_ENDPOINT, and pin again. Else get these files where the hub can"
        f" be reached:\n{addresses}\n"
        f"{'' if facts.format == 'pickle' else add}"
        f"or write the commit as `revision`, and `size` and `sha256` (sha256sum FILE) of each of `files`,"
        f" into {catalogue.file_of(model)}."
    )

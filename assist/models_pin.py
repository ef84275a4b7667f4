"""``assist models pin``: the checksums of a model's files, as its hub has them."""

from typing import Annotated

import typer

from assist import catalogue_writer
from assist.terminal import fail, out
from model_loader.errors import LoaderError, ModelError, TransientError
from model_loader.inspection import repository
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources import pin as pins
from model_loader.sources.protocols import HubSource
from stackfile import StackFileError, catalogue
from stackfile.catalogue import ModelFacts

# A user waits: a hub that cannot be reached is to be said soon.
_TRIES = 3


def pin(
    model: str,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit. Default: the catalogue's own.")] = "",
) -> None:
    """Fetch the checksums of a model's files from the hub and record them in the catalogue, for review.

    From then on the catalogue, not the hub, decides what is served. A model that the hub has in several
    safetensors files is recorded with all of them; where its branch has pickled weights only, the newest pull
    request with safetensors is pinned. HF_ENDPOINT and HF_TOKEN apply.

    Example: assist models pin codegen-350M-mono
    """
    try:
        entries = catalogue.models()
    except StackFileError as error:
        fail(str(error))
    if model not in entries:
        fail(f"{model!r} is not in the catalogue; {catalogue.unknown_model(model, entries)}")
    facts = entries[model]
    if facts.hub is None or facts.hub.hub is None:
        fail(f"{model} has no hub among its sources; the catalogue already has its checksums.")
    requested = revision or facts.hub.revision or facts.revision
    retry = RetryPolicy(_TRIES, cap_s=5.0)
    try:
        hub = pins.hub(facts.hub.hub, requested)
        at, paths = _found(hub, facts, retry)
        resolved = pins.resolve(at, paths, requested, retry)
        changed = catalogue_writer.record(catalogue.file_of(model), model, resolved.revision, resolved.files)
    except TransientError as error:
        fail(_what_to_do(hub, model, facts, str(error)))
    except (LoaderError, catalogue_writer.CatalogueError) as error:
        fail(str(error))
    out.print(
        f"{model} is pinned to {resolved.revision}." if changed else f"{model} was pinned already.",
        highlight=False,
    )


def _found(hub: HubSource, facts: ModelFacts, retry: RetryPolicy) -> tuple[HubSource, list[str]]:
    """Return where the model's files are, and their names: the entry's, else what the repository has instead.

    Raises ModelError where it has nothing that can be served, else as the hub.
    """
    commit, listed = retrying(retry, hub.listing)
    wanted = [file.path for file in facts.files]
    if facts.format == "gguf" or all(path in listed for path in wanted):
        return hub.at(commit), wanted
    at = hub.at(commit)
    weights = repository.safetensors(at, repository.known_sizes(listed))
    if weights:
        return at, repository.documents(listed, weights)
    found = repository.conversion(hub, retry)
    if found is None:
        pickled = ", ".join(repository.pickles(listed)[:3]) or "no weights"
        raise ModelError(
            f"{hub.name} has {pickled}, and no safetensors on this revision or in its pull requests."
            " Pickled weights can run code and are not read. Ask for a conversion on the hub, pin another"
            " --revision, or add a GGUF file of the model (assist models add)."
        )
    out.print(f"{found.reference} has safetensors, which {commit[:12]} has not.", highlight=False)
    at = hub.at(found.commit)
    weights = repository.safetensors(at, repository.known_sizes(found.files))
    return at, repository.documents(found.files, weights)


def _what_to_do(hub: HubSource, model: str, facts: ModelFacts, cause: str) -> str:
    """Return what a user without the hub can do."""
    addresses = "\n".join(f"  {hub.url(file.path)}" for file in facts.files)
    source = f"FOLDER/{facts.files[0].path}" if facts.format == "gguf" else "FOLDER"
    return (
        f"The hub can't be reached from here ({cause}); nothing was changed.\n"
        "With a mirror of the hub: set HF_ENDPOINT, and pin again. Else get these files where the hub can"
        f" be reached:\n{addresses}\n"
        "bring them here into one folder, and let them be read and hashed:\n"
        f"  assist models add {source} --name {model} --licence {facts.licence} --replace\n"
        f"or write the commit as `revision`, and `size` and `sha256` (sha256sum FILE) of each of `files`,"
        f" into {catalogue.file_of(model)}."
    )

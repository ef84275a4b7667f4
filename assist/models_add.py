"""``assist models add`` and ``remove``: a user's own models in the catalogue."""

import json
from typing import Annotated, Any

import typer

from assist import catalogue_writer
from assist.options import Json
from assist.paths import Paths
from assist.terminal import err, fail, out
from model_loader import path_rules
from model_loader.errors import LoaderError, TransientError
from model_loader.inspection import licences
from model_loader.inspection.candidate import Candidate, Inspector
from model_loader.progress import Bar
from model_loader.retry import RetryPolicy
from stackfile import StackFileError, catalogue, runtime_selection
from stackfile.catalogue import ModelFacts

# A user waits: a hub that cannot be reached is to be said soon.
_TRIES = 3
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")]


def add(
    source: Annotated[
        str,
        typer.Argument(help="A GGUF file, a folder with safetensors, a hub id, or hub-id:FILE."),
    ],
    name: Annotated[
        str, typer.Option(help="Name in the catalogue. Default: that of the file or folder.")
    ] = "",
    licence: Annotated[
        str, typer.Option(help="SPDX id or name of the licence, where file and hub name none.")
    ] = "",
    commercial: Annotated[
        bool | None,
        typer.Option(help="Whether the licence allows commercial use, where the project doesn't know it."),
    ] = None,
    revision: Annotated[str, typer.Option(help="A hub's branch, tag, commit or refs/pr/N.")] = "main",
    replace: Annotated[bool, typer.Option("--replace", help="Replace another model of this name.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Add a model to the catalogue: shape, memory, tokens and licence from its files, with their checksums.

    Of GGUF and safetensors only the headers are read, on a hub by ranges; nothing is ever executed. A model
    that no runtime here serves is refused. HF_ENDPOINT and HF_TOKEN apply.

    Example: assist models add Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
    """
    try:
        found = _inspect(source, revision, quiet=as_json)
        name = name or found.name
        path_rules.check_identifier(name, "name (--name)")
        if reason := _unserved(found):
            fail(f"{source} is refused: {reason}.")
        entry = _entry(found, licence, commercial)
        facts = ModelFacts.model_validate_json(json.dumps(entry))
        state = _state(name, facts, replace=replace)
        if state == "added" and not dry_run:
            catalogue_writer.put(catalogue.added_file(), name, entry)
    except TransientError as error:
        fail(f"{error}. Set HF_ENDPOINT to a mirror, or get the files elsewhere and add their folder.")
    except (LoaderError, StackFileError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or source}: {error.strerror}. Nothing was changed.")
    _report(name, facts, entry, "would be added" if dry_run and state == "added" else state, as_json=as_json)


def remove(model: str, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Remove a model that `assist models add` has added; where it replaced the project's own, that is back.

    Example: assist models remove my-model
    """
    file = catalogue.added_file()
    try:
        if model not in catalogue.added():
            own = model in catalogue.models()
            reason = "is the project's own; only added models can be removed" if own else f"is not in {file}"
            fail(f"{model} {reason}.")
        if not dry_run:
            catalogue_writer.drop(file, model)
    except StackFileError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}. Nothing was changed.")
    stored = Paths().store / model.replace("/", "--")
    left = str(stored) if stored.is_dir() else None
    status = "would be removed" if dry_run else "removed"
    if as_json:
        typer.echo(json.dumps({"model": model, "status": status, "stored": left}, indent=1))
        return
    out.print(f"{model}: {status} ({file}).", highlight=False, markup=False, soft_wrap=True)
    if left:
        out.print(f"Its files stay in {left}: delete the folder once nothing serves it.", soft_wrap=True)


def _inspect(source: str, revision: str, *, quiet: bool) -> Candidate:
    converters = {str(name): facts.converts for name, facts in catalogue.runtimes().items()}
    retry = RetryPolicy(_TRIES, cap_s=5.0)
    if quiet or not err.is_terminal:
        return Inspector(converters, retry).inspect(source, revision)
    with Bar("reading") as bar:
        return Inspector(converters, retry, bar.expect, bar.add).inspect(source, revision)


def _entry(found: Candidate, licence: str, commercial: bool | None) -> dict[str, Any]:
    """Return the catalogue's entry, with the fields that its schema has, in its order."""
    stated = licences.known(licence) or found.licence
    if not stated:
        fail(
            f"neither the file nor the hub's card of {found.name} names a licence; look it up and give it as"
            " --licence ID (an SPDX id such as Apache-2.0, or the name on the card)."
        )
    listed = {
        each.licence.lower(): licences.Licence(each.licence, each.commercial, each.restrictions)
        for each in catalogue.models().values()
    }
    terms = licences.licence(stated, listed)
    values: dict[str, Any] = {
        **found.place,
        "licence": terms.id,
        "commercial": terms.commercial if commercial is None else commercial,
        "restrictions": terms.restrictions,
        **found.values,
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in found.files],
        "origin": found.origin | ({"licence": "user"} if licences.known(licence) else {}),
    }
    return {key: values[key] for key in ModelFacts.model_fields if values.get(key) not in (None, [])}


def _unserved(found: Candidate) -> str | None:
    """Return why no runtime here serves the model, or None. Safetensors were compared as they were read."""
    if found.values["format"] != "gguf":
        return None
    return runtime_selection.unreadable(found.values["architecture"], found.values["memory_gib"])


def _state(name: str, facts: ModelFacts, *, replace: bool) -> str:
    """Return ``already there`` or ``added``; exit where the name belongs to another model."""
    present = catalogue.models().get(name)
    if present == facts:
        return "already there"
    if present is not None and not replace:
        same = {file.sha256 for file in present.files} == {file.sha256 for file in facts.files}
        what = "with the same files from elsewhere" if same else "as another model"
        fail(
            f"{name} is in the catalogue already, {what} ({catalogue.file_of(name)}). Choose another --name,"
            " or give --replace."
        )
    return "added"


def _report(name: str, facts: ModelFacts, entry: dict[str, Any], state: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"model": name, "status": state, "entry": entry}, indent=1))
        return
    if state == "would be added":
        out.print(catalogue_writer.dump(name, entry), markup=False, highlight=False, soft_wrap=True, end="")
    where = f" to {catalogue.added_file()}" if state == "added" else ""
    out.print(f"{name}: {state}{where}.", highlight=False, markup=False, soft_wrap=True)
    if state != "already there" and not facts.commercial:
        out.print(
            f"{facts.licence} is not known to allow commercial use: a stack needs `accept_licence:"
            f" {facts.licence}` (or add the model with --commercial, if the licence allows it).",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if state != "already there" and facts.fim:
        out.print(
            "Its vocabulary has tokens for filling in the middle. If the model was not trained on them, write"
            " `fim: none` into the entry, or into the stack.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if state == "added":
        out.print(f"Serve it with `model: {name}` in a stack file.", highlight=False, markup=False)

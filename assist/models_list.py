"""``assist models list``: what each model of the catalogue takes, may be used for, and does here."""

import json
from pathlib import Path
from typing import Any

import typer
from rich.table import Column, Table

from assist import speeds
from assist.options import Json
from assist.paths import Paths
from assist.terminal import fail, out
from stackfile import StackFileError, catalogue
from stackfile.catalogue import ModelFacts
from stackfile.memory import Use

# The context that the memory is given for, or the model's where shorter.
_CONTEXT = 8192
_SHORT = 12  # characters of a commit that tell revisions apart


def list_(as_json: Json = False) -> None:
    """List the catalogue's models: licence, memory, context, speed here, and what is in the store.

    Memory is that of the engine in the smallest precision with one request of up to 8192 tokens. Speed is
    the best of the completions that `make up` and `make status` made on this machine, one stream.
    """
    try:
        facts, added = catalogue.models(), catalogue.added()
    except StackFileError as error:
        fail(str(error))
    models = {name: _row(name, each, added) for name, each in facts.items()}
    if as_json:
        documents = {name: facts[name].model_dump(mode="json") | row for name, row in models.items()}
        typer.echo(json.dumps(documents, indent=1))
        return
    names = {name: f"{name} (added)" if row["added"] else name for name, row in models.items()}
    # A name is what the user copies into a stack file: of all columns it alone is never cut.
    columns = ("licence", "parameters", "memory", "context", "tokens/s here", "checksums", "in the store")
    table = Table(Column("model", no_wrap=True, min_width=max(map(len, names.values()))), *columns)
    for name, row in models.items():
        model, speed = facts[name], row["speed"]
        table.add_row(
            names[name],
            model.licence if model.commercial else f"{model.licence} (not commercial)",
            f"{model.parameters / 1e6:,.0f} M",
            f"{row['memory']['total_gib']:.2f} GiB",
            str(model.context_length),
            f"{speed['tokens_per_s']:.1f}" if speed else "",
            "known" if model.pinned else "not pinned",
            ", ".join(revision[:_SHORT] for revision in row["stored"]),
        )
    out.print(table)
    for terms in dict.fromkeys(model.terms for model in facts.values() if model.restrictions):
        out.print(terms, highlight=False)


def _row(name: str, facts: ModelFacts, added: frozenset[str]) -> dict[str, Any]:
    """Return what is not in the catalogue's entry itself."""
    speed = speeds.read(Paths().speeds).get(name)
    precision = min(facts.memory_gib, key=facts.memory_gib.__getitem__)
    context = min(_CONTEXT, facts.context_length)
    runtime = "llama_cpp" if facts.format == "gguf" else "ctranslate2"
    total = Use(facts, runtime, precision, context, slots=1).process / 1024
    return {
        "memory": {"precision": precision, "context": context, "total_gib": round(total, 3)},
        "speed": None if speed is None else vars(speed),
        "stored": _stored(Paths().store / name.replace("/", "--")),
        "added": name in added,
    }


def _stored(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink())

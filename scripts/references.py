"""Write docs/reference/ and docs/faults.md from the code: settings, the stack file's keys, memory, faults.

``python scripts/references.py`` writes the pages, ``--check`` exits with 1 where one is not current.
"""

import argparse
import ast
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from assist.doctor.faults import FAULTS, TARGETS, Fault  # noqa: E402 -- as the next one
from gateway.dialects.llamacpp_body import DEFAULT_PREDICT  # noqa: E402 -- as the next one
from gateway.settings import Settings  # noqa: E402 -- the clone comes first on the path
from stackfile.environment import GatewayPaths, gateway_environment  # noqa: E402
from stackfile.resolve import load_stack  # noqa: E402
from stackfile.resolved import ResolvedStack  # noqa: E402
from stackfile.stack import Stack  # noqa: E402

PAGES = ROOT / "docs"
UNITS = {
    "_s": "s",
    "_bytes": "bytes",
    "_mib": "MiB",
    "_gib": "GiB",
    "_ms": "ms",
    "_us": "µs",
    "_m": "m cores",
}
NOTE = "This page is generated from {source}: `make docs` writes it.\n"
SETTINGS = """# Gateway settings

{note}
Every setting is an environment variable of the gateway, and of the worker where it needs the setting. A
deployment sets them through keys of its [stack file](stack-file.md): see the column *stack key*. Names in
parentheses are those of the systems that this one replaces, and old names; they work as well. Where two are
set, the first one wins.

| variable | default | unit | stack key | meaning |
|---|---|---|---|---|
{rows}

## Tokens of an answer

What limits an answer whose request carries no number of tokens:

| requests | tokens |
|---|---|
| OpenAI's and Mistral's completions, jobs, FauxPilot's and Copilot's routes | `ASSIST_DEFAULT_MAX_TOKENS` |
| `/v1/chat/completions` | `ASSIST_MAX_TOKENS_CAP`: the model ends its answer by itself |
| `/completion`, `/infill`, also with `n_predict` -1 | {llama} |
| GitLab's completions | `ASSIST_GITLAB_MAX_TOKENS` |
| GitLab's generations | `ASSIST_GITLAB_GENERATION_MAX_TOKENS` |

`ASSIST_MAX_TOKENS_CAP` and what the prompt leaves of the context limit all of them. At `ASSIST_DEADLINE_S` a
started answer ends with what there is and `finish_reason: "length"` (`stop_type: "limit"` on `/completion`
and `/infill`). A whole response then has the header `x-assist-ended-by: deadline`; the last object of a
stream and the result of a job's item have the member `"ended_by": "deadline"`, for which GitLab's plain text
has no place.
The metric `assist_completions_expired_total` counts them. Without a token, the request gets 504.
"""
STACK = """# Stack file

{note}
Every key of a stack file, with its default. [The stack file](../stack-file.md) explains how the file is read.

{sections}
"""
MEMORY = """# Memory of the stock stacks

{note}
What each process takes in MiB, and gets as its limit. [Memory](../memory.md) explains and measures it.

| stack | model | slots x tokens | loader | engine | each GPU | weights | cache | workspace | gateway |
|---|---|---|---|---|---|---|---|---|---|
{rows}
"""
FAULTS_PAGE = """# Faults

{note}
`assist doctor` names each of these faults, its cause before its symptoms, with since when, the line that
shows it, and the command that mends it. It changes nothing. `--json` prints the same for programs. Exit
status: 0 all is well, 1 something is wrong, 2 it could not be told.

```
.run/bin/assist doctor                                        # this machine
.run/bin/assist doctor --stack hosts -i ansible/inventories/mine [--host gpu1]
```

On hosts it logs in as the inventory does, to all of them at the same time, and asks for root only for what
nobody else may read. A host that does not answer is a finding. Of the model it compares every byte with the
manifest; `--quick` compares the sizes alone.

A tick says that a test breaks a real service or a real, booted host in this way, and that the doctor then
names this fault and no other as a cause; `engine-not-ready`, `gateway-not-ready`, `completion-fails` and, on
hosts, `process-crashing` are seen below the causes of other tests. What it prints as the remedy is then run
and heals, unless no command can do it: to make room, to start a host, to correct a stack file, to open
another's firewall, to set a clock.

| fault | {targets} | what is wrong | what mends it |
|---|{columns}|---|---|
{rows}

{sections}
"""
TABLE = "| key | default | value | meaning |\n|---|---|---|---|\n"


def settings_page() -> str:
    """Return the page of the gateway's settings."""
    keys = stack_keys()
    rows = []
    for name, field in Settings.model_fields.items():
        ours, *others = variables(name, field)
        also = f" ({', '.join(f'`{other}`' for other in others)})" if others else ""
        key = next((keys[variable] for variable in (ours, *others) if variable in keys), "-")
        text = field.description or ""
        rows.append(f"| `{ours}`{also} | {default(field)} | {unit(name)} | {key} | {cell(text)} |")
    return SETTINGS.format(
        note=NOTE.format(source="`gateway/settings.py`"), rows="\n".join(rows), llama=DEFAULT_PREDICT
    )


def memory_page() -> str:
    """Return the page of the memory that each stock stack takes."""
    rows = []
    for file in sorted((ROOT / "stacks").glob("[a-z]*.yaml")):
        stack = load_stack(file)
        memory, slots = stack.memory, f"{stack.serving.slots} x {stack.context_length}"
        parts = ("loader", "engine", "device", "weights", "cache", "workspace", "gateway")
        figures = [str(getattr(memory, f"{part}_mib") or "-") for part in parts]
        served = f"`{stack.model.id}` {stack.runtime} {stack.precision}"
        rows.append(f"| {' | '.join([f'`{stack.name}`', served, slots, *figures])} |")
    return MEMORY.format(note=NOTE.format(source="`stackfile/memory.py`"), rows="\n".join(rows))


def faults_page() -> str:
    """Return the page of the faults that the doctor names."""
    rows, sections = [], []
    for fault in FAULTS:
        ticks = " | ".join("✓" if target in fault.targets else "" for target in TARGETS)
        name = f"[`{fault.name}`](#{fault.name})"
        rows.append(f"| {name} | {ticks} | {cell(fault.what)} | {cell(fault.mends)} |")
        sections.append(_section(fault))
    return FAULTS_PAGE.format(
        note=NOTE.format(source="`assist/doctor/faults.py`"), targets=" | ".join(TARGETS),
        columns="|".join("---" for _ in TARGETS), rows="\n".join(rows), sections="\n\n".join(sections),
    )  # fmt: skip


def _section(fault: Fault) -> str:
    what, mends = (f"{text[0].upper()}{text[1:]}." for text in (fault.what, fault.mends))
    follows = ", ".join(f"[`{name}`](#{name})" for name in fault.follows)
    text = f"## {fault.name}\n\n{what}\n\nWhat mends it: {mends[0].lower()}{mends[1:]}"
    return f"{text}\n\nIt is a symptom where one of these is found, too: {follows}." if follows else text


def variables(name: str, field: FieldInfo) -> list[str]:
    """Return the environment variables that set a field, the preferred one first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices if str(choice).isupper()]
    return [alias.upper() if isinstance(alias, str) else f"ASSIST_{name.upper()}"]


def stack_keys() -> dict[str, str]:
    """Return the stack keys that set each variable, determined by changing one key of a stack at a time."""
    stack = load_stack(ROOT / "stacks/local.yaml")
    stack = stack.model_copy(update={"jobs": stack.jobs.model_copy(update={"enabled": True})})
    before = _environment(stack)
    keys: dict[str, list[str]] = {}
    for path in _leaves(stack):
        after = _environment(_replaced(stack, path))
        for variable in sorted(before.keys() | after.keys()):
            if before.get(variable) != after.get(variable):
                key = path[0] if path[0] == "model" else ".".join(path)
                keys.setdefault(variable, []).append(f"`{key}`")
    return {variable: ", ".join(dict.fromkeys(names)) for variable, names in keys.items()}


def _environment(stack: ResolvedStack) -> Mapping[str, str]:
    return gateway_environment(stack, GatewayPaths(Path("/model"), Path("/keys.json")))


def _leaves(section: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel) and name != "fim":
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name)


def _replaced(section: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 -- models of any kind
    value = getattr(section, path[0])
    if len(path) > 1:
        changed = _replaced(value, path[1:])
    else:
        changed = None if path[0] == "fim" else not value if isinstance(value, bool) else "~"
    return section.model_copy(update={path[0]: changed})


def stack_page() -> str:
    """Return the page of the stack file's keys."""
    top = [row for row in _rows(Stack, ()) if "." not in row.partition(" | ")[0]]
    sections = ["## Top level\n\n" + TABLE + "\n".join(top)]
    for name, field in Stack.model_fields.items():
        if (model := _model(field)) is not None:
            text = f"## `{name}`\n\n{cell(model.__doc__ or '')}\n\n{TABLE}"
            sections.append(text + "\n".join(_rows(model, (name,))))
    return STACK.format(note=NOTE.format(source="`stackfile/`"), sections="\n\n".join(sections))


def _rows(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[str]:
    texts = descriptions(model)
    for name, field in model.model_fields.items():
        path = (*above, name)
        if (inner := _model(field)) is not None:
            yield from _rows(inner, path)
        else:
            columns = (f"`{'.'.join(path)}`", default(field), value_of(field), cell(texts.get(name, "")))
            yield f"| {' | '.join(columns)} |"


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields of ``model``'s class, by field.

    Pydantic can read them, too, but would do so at the start of every command.
    """
    tree = cast("ast.ClassDef", ast.parse(inspect.getsource(model)).body[0])
    texts: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                texts[name] = words
    return texts


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def default(field: FieldInfo) -> str:
    """Return a field's default as a table's cell."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return "-"
    text = f"{value:g}" if isinstance(value, float) else _word(value)
    return f"`{text}`" if text else "empty"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_of(field: FieldInfo) -> str:
    """Return which values a field takes: its choices, or its type with its bounds."""
    text = _type(field.annotation)
    bounds = [f"{sign} {limit:g}" for sign, limit in _bounds(field)]
    return f"{text} {', '.join(bounds)}".strip()


def _type(kind: Any) -> str:  # noqa: ANN401 -- any annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_word(choice)}`" for choice in get_args(kind))
    if get_origin(kind) is Annotated:
        return _type(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return " or ".join(_type(one) for one in get_args(kind) if one is not types.NoneType)
    if get_origin(kind) in {tuple, list, frozenset}:
        return "list"
    if get_origin(kind) is dict:
        return "mapping"
    names = {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}
    return names.get(kind, getattr(kind, "__name__", str(kind)).lower())


def _bounds(field: FieldInfo) -> Iterator[tuple[str, float]]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    annotated = [part for one in get_args(field.annotation) for part in getattr(one, "__metadata__", ())]
    for constraint in (*field.metadata, *annotated):
        for name, sign in signs.items():
            if (limit := getattr(constraint, name, None)) is not None:
                yield sign, float(limit)


def unit(name: str) -> str:
    """Return the unit that a setting's name ends in."""
    named = (text for end, text in UNITS.items() if name.endswith(end))
    return next(named, "tokens" if "tokens" in name else "")


def cell(text: str) -> str:
    """Return a docstring as a table's cell."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _pages() -> dict[str, str]:
    return {
        "reference/settings.md": settings_page(), "reference/stack-file.md": stack_page(),
        "reference/memory.md": memory_page(), "faults.md": faults_page(),
    }  # fmt: skip


def main() -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 for a stale page")
    check = parser.parse_args().check
    stale = []
    for name, text in _pages().items():
        page = PAGES / name
        if not page.is_file() or page.read_text("utf-8") != text:
            stale.append(name)
            if not check:
                page.parent.mkdir(parents=True, exist_ok=True)
                page.write_text(text, "utf-8")
    if check and stale:
        sys.stderr.write(f"docs: {', '.join(stale)} not current; run: make docs\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

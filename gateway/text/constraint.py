"""From JSON schemas to what the engine holds its text to, and what is refused before a request is queued.

The schemas are compiled here by the library that will enforce them: in ``verify``, because it takes a process
50 ms, which only a caller within its limits may cost. Bounded are their size, their depth, and the time and
memory of their compilation.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.engine.base import Constraint
from gateway.errors import ApiError, invalid
from gateway.text import grammar_check

MAX_BYTES = 64 * 1024
_MAX_DEPTH = 32
# Free choice of white space lets a small model write it without an end.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
Schema = Mapping[str, Any]


def check(schema: Schema, param: str, *, strict: bool) -> None:
    """Raise ``ApiError`` 400, naming ``param``, for a schema that is too large, too deep or not strict.

    ``strict`` is OpenAI's: every object lists all its properties as required and allows no others.
    """
    if is_deep(schema):
        raise refused(f"the schema is more than {_MAX_DEPTH} levels deep", param)
    if len(json.dumps(schema, ensure_ascii=False).encode()) > MAX_BYTES:
        raise refused(f"the schema is larger than {MAX_BYTES} bytes", param)
    for path, _, value in _nodes(schema):
        if strict and isinstance(value, Mapping) and value.get("type") == "object":
            _check_strict(value, path, param)


def _check_strict(schema: Schema, path: str, param: str) -> None:
    properties, required = schema.get("properties") or {}, schema.get("required") or ()
    if schema.get("additionalProperties") is not False:
        raise refused(f"with strict, additionalProperties must be false at {path}", param)
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence):
        raise refused(f"properties must be an object and required a list at {path}", param)
    missing = [name for name in properties if name not in required]
    if missing:
        raise refused(f"with strict, required must list {missing[0]!r} at {path}", param)


def is_deep(value: Any) -> bool:  # noqa: ANN401 -- any JSON
    """Return whether a JSON value has more levels than are taken here."""
    return any(depth > _MAX_DEPTH for _, depth, _ in _nodes(value))


def _nodes(schema: Any) -> Iterator[tuple[str, int, Any]]:  # noqa: ANN401 -- any JSON
    """Yield every value of a schema with its path and depth."""
    waiting: list[tuple[str, int, Any]] = [("#", 0, schema)]
    while waiting:
        path, depth, value = waiting.pop()
        yield path, depth, value
        if isinstance(value, Mapping):
            waiting += [(f"{path}/{key[:64]}", depth + 1, member) for key, member in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}/{index}", depth + 1, member) for index, member in enumerate(value)]


def answer(schema: Schema, *, strict: bool) -> Constraint:
    """Return the constraint of an answer that is one JSON value. Raises 400 for too large a schema."""
    text = json_text(schema, strict=strict)
    grammar = grammar_of("start: value", {"value": f"%json {text}"})
    return bounded(Constraint(grammar, text, param="response_format"))


def json_text(schema: Schema, *, strict: bool) -> str:
    """Return the schema as text, with how llguidance is to read it; others ignore that."""
    return json.dumps({**schema, "x-guidance": {**_SPACING, "lenient": not strict}})


def grammar_of(start: str, rules: Mapping[str, str]) -> str:
    """Return llguidance's text of a grammar: the rule ``start``, and the others by name."""
    return "\n".join(["%llguidance {}", start, *(f"{name}: {rule}" for name, rule in rules.items()), ""])


def bounded(constraint: Constraint) -> Constraint:
    """Return the constraint. Raises ``ApiError`` 400 for a larger one than is compiled here."""
    if len(constraint.grammar.encode()) > MAX_BYTES:
        raise refused(f"the schemas are larger than {MAX_BYTES} bytes together", constraint.param)
    return constraint


async def verify(constraint: Constraint) -> None:
    """Raise ``ApiError`` 400 for schemas that cannot be enforced, 503 while too many wait for their check."""
    param = constraint.param
    try:
        reason = await grammar_check.checks.fault(constraint.sample or constraint.grammar)
    except ValueError as error:
        raise invalid(f"{param} is not supported here: {error}", param, "unsupported_parameter") from None
    if reason is not None:
        raise refused(reason.partition("failed to compile JSON schema: ")[2] or reason, param)


def refused(reason: str, param: str) -> ApiError:
    """Return the 400 for a schema in ``param``, with the reason."""
    return invalid(f"A schema in {param} cannot be used: {reason}.", param, "invalid_json_schema")

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
from gateway.text.tool_syntax import ToolSyntax

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
        raise _refused(f"the schema is more than {_MAX_DEPTH} levels deep", param)
    if len(json.dumps(schema, ensure_ascii=False).encode()) > MAX_BYTES:
        raise _refused(f"the schema is larger than {MAX_BYTES} bytes", param)
    for path, _, value in _nodes(schema):
        if strict and isinstance(value, Mapping) and value.get("type") == "object":
            _check_strict(value, path, param)


def _check_strict(schema: Schema, path: str, param: str) -> None:
    properties, required = schema.get("properties") or {}, schema.get("required") or ()
    if schema.get("additionalProperties") is not False:
        raise _refused(f"with strict, additionalProperties must be false at {path}", param)
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence):
        raise _refused(f"properties must be an object and required a list at {path}", param)
    missing = [name for name in properties if name not in required]
    if missing:
        raise _refused(f"with strict, required must list {missing[0]!r} at {path}", param)


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


def call_schema(functions: Mapping[str, Schema], syntax: ToolSyntax) -> dict[str, Any]:
    """Return the schema of one call of any of the functions, given the schema of each one's arguments."""
    definitions = {str(index): _moved(schema, index) for index, schema in enumerate(functions.values())}
    calls = [
        {
            "type": "object",
            "properties": {syntax.name: {"const": name}, syntax.arguments: {"$ref": f"#/$defs/{index}"}},
            "required": [syntax.name, syntax.arguments],
            "additionalProperties": False,
        }
        for index, name in enumerate(functions)
    ]
    return {"anyOf": calls, "$defs": definitions}


def _moved(value: Any, index: int) -> Any:  # noqa: ANN401 -- any part of a schema
    """Return a schema with its references set right for its new place."""
    if isinstance(value, Mapping):
        return {
            key: f"#/$defs/{index}{member[1:]}"
            if key == "$ref" and isinstance(member, str) and member.startswith("#")
            else _moved(member, index)
            for key, member in value.items()
        }
    return [_moved(each, index) for each in value] if isinstance(value, list) else value


def answer(schema: Schema, *, strict: bool) -> Constraint:
    """Return the constraint of an answer that is one JSON value. Raises 400 for too large a schema."""
    text = _json(schema, strict=strict)
    return _bounded(
        Constraint(_grammar("start: value", {"value": f"%json {text}"}), text, param="response_format")
    )


def calls(
    schema: Schema, syntax: ToolSyntax, *, parallel: bool, strict: bool, begun: bool, answer: Schema | None
) -> Constraint:
    """Return the constraint of an answer with calls.

    Args:
        schema: of one call, from ``call_schema``.
        syntax: how calls are written.
        parallel: whether there may be several.
        strict: whether a schema that cannot be enforced to the letter is refused.
        begun: whether the prompt ends with the begin of a call; otherwise the model chooses.
        answer: the schema of an answer without a call; ``None`` for any text.

    Raises:
        ApiError: 400 for schemas that are too large together.
    """
    value = _json(schema, strict=strict)
    rules = {"value": f"%json {value}", "after": json.dumps(syntax.after, ensure_ascii=False)}
    opening = _pattern(syntax.opening)
    space = json.dumps(syntax.before[len(syntax.opening) :])
    rules["call"] = f"{space} value after" if syntax.before != syntax.opening else "value after"
    rules["next"] = rf"/\s{{0,4}}/ {json.dumps(syntax.opening, ensure_ascii=False)} call"
    others = "next*" if parallel else ""
    if begun:
        start = f"start: value after {others}"
    elif answer is not None:
        rules["answer"] = f"%json {_json(answer, strict=strict)}"
        start = f"start: answer | {json.dumps(syntax.opening, ensure_ascii=False)} call {others}"
    else:
        # The shortest text up to the tag, or one without it.
        rules["tagged[lazy]"] = f"/(?s:.*{opening})/"
        rules["TEXT"] = f"/(?s:.+)/ & ~/(?s:.*{opening}.*)/"
        start = f"start: TEXT? | tagged call {others}"
    whole = value if begun else None
    required = begun or answer is not None
    return _bounded(Constraint(_grammar(start, rules), whole, required=required, param="tools"))


def _json(schema: Schema, *, strict: bool) -> str:
    """Return the schema as text, with how llguidance is to read it; others ignore that."""
    return json.dumps({**schema, "x-guidance": {**_SPACING, "lenient": not strict}})


def _grammar(start: str, rules: Mapping[str, str]) -> str:
    return "\n".join(["%llguidance {}", start, *(f"{name}: {rule}" for name, rule in rules.items()), ""])


def _pattern(text: str) -> str:
    """Return a regular expression that matches the text, in Lark's slashes."""
    return "".join(c if c.isalnum() or ord(c) > 0x7F else f"\\x{ord(c):02X}" for c in text)


def _bounded(constraint: Constraint) -> Constraint:
    if len(constraint.grammar.encode()) > MAX_BYTES:
        raise _refused(f"the schemas are larger than {MAX_BYTES} bytes together", constraint.param)
    return constraint


async def verify(constraint: Constraint) -> None:
    """Raise ``ApiError`` 400 for schemas that cannot be enforced, 503 while too many wait for their check."""
    param = constraint.param
    try:
        reason = await grammar_check.checks.fault(constraint.grammar)
    except ValueError as error:
        raise invalid(f"{param} is not supported here: {error}", param, "unsupported_parameter") from None
    if reason is not None:
        raise _refused(reason.partition("failed to compile JSON schema: ")[2] or reason, param)


def _refused(reason: str, param: str) -> ApiError:
    return invalid(f"A schema in {param} cannot be used: {reason}.", param, "invalid_json_schema")

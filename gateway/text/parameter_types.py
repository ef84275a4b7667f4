"""What the parameters of a function are, for calls that are written as text and not as JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
_ALL = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})
_NAMES: dict[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", dict: "object",
    list: "array",
}  # fmt: skip
# Templates write these as Python does, and so do models.
_PYTHON = {"True": True, "False": False, "None": None}
_MOST_STEPS = 64


def resolved(schema: Any, root: Schema) -> Schema:  # noqa: ANN401 -- any part of a schema
    """Return a schema, or the one in ``root`` that it refers to; an empty one where there is none."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = _at(reference, root)
    return {}


def _at(reference: str, root: Schema) -> Any:  # noqa: ANN401 -- any part of a schema
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def property_of(name: str, root: Schema) -> Any:  # noqa: ANN401 -- any part of a schema
    """Return the schema of a function's parameter."""
    function = resolved(root, root)
    properties = function.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return function.get("additionalProperties")


def types(schema: Any, root: Schema, depth: int = 0) -> frozenset[str]:  # noqa: ANN401 -- any part of a schema
    """Return the JSON types that a value may have: all of them where the schema does not say."""
    found = resolved(schema, root)
    allowed = _ALL
    if isinstance(found.get("type"), str):
        allowed = frozenset({found["type"]})
    elif isinstance(found.get("type"), list):
        allowed = frozenset(each for each in found["type"] if isinstance(each, str))
    values = [found["const"]] if "const" in found else found.get("enum")
    if isinstance(values, list):
        allowed &= frozenset(_NAMES.get(type(value), "string") for value in values)
    for key in ("anyOf", "oneOf"):
        if isinstance(found.get(key), list) and depth < _MOST_STEPS:
            allowed &= frozenset().union(*(types(each, root, depth + 1) for each in found[key]))
    return allowed


def is_text(schema: Any, root: Schema) -> bool:  # noqa: ANN401 -- any part of a schema
    """Return whether a value is always a string, which is written without quotes."""
    return types(schema, root) == {"string"}


def value(text: str, allowed: frozenset[str]) -> Any:  # noqa: ANN401 -- any JSON
    """Return the value that a text stands for, of a type that is allowed where there is one.

    A text that is none of them is returned as it is: the model wrote it, and the caller has to judge.
    """
    stripped = text.strip()
    if stripped in _PYTHON:
        found: Any = _PYTHON[stripped]
    else:
        try:
            found = json.loads(stripped, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            return text
    kind = _NAMES[type(found)]
    fits = kind in allowed or (kind == "integer" and "number" in allowed)
    return found if kind != "string" and (fits or "string" not in allowed) else text


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(number)
    return float(number)


def _refuse(constant: str) -> None:
    raise ValueError(constant)

"""What the SDK's types have against inputs, and those types as a schema for ``pulumi package get-schema``."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from testing.gcp import sdk
from testing.gcp.sdk import Property, Shape, Type
from testing.gcp.values import UNKNOWN

_PYTHON = {"string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float)}
_NAMES = {"string": "a string", "boolean": "a boolean", "integer": "an integer", "number": "a number"}


@dataclass(frozen=True)
class Finding:
    """``path``: the property, such as ``nodeConfig.taints[0].effect``; ``reason``: what is wrong with it."""

    path: str
    reason: str


def findings(shape: Shape, inputs: dict[str, Any]) -> list[Finding]:
    """Return each property that is unknown, missing or of another type. Secret markers must be removed before."""
    return list(_of_object(shape, inputs, ""))


def _of_object(shape: Shape, given: dict[str, Any], path: str) -> Iterator[Finding]:
    def at(name: str) -> str:
        return f"{path}.{name}" if path else name

    for name in given:
        if name not in shape.properties and not name.startswith("__"):
            near = difflib.get_close_matches(name, shape.properties, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Finding(at(name), f"{shape.name.removesuffix('Args')} has no property {name}{hint}")
    for name, wanted in shape.properties.items():
        if name in given:
            yield from _of_value(shape, wanted.type, given[name], at(name))
        elif wanted.required:
            yield Finding(at(name), f"missing required property {name}")


def _of_value(shape: Shape, wanted: Type, given: Any, path: str) -> Iterator[Finding]:
    if given is UNKNOWN or wanted.kind == "any":
        return
    if wanted.kind == "union":
        yield from min((list(_of_value(shape, one, given, path)) for one in wanted.of), key=len)
    elif wanted.kind == "object":
        if not isinstance(given, dict):
            yield Finding(path, f"expected an object, not {given!r}")
        else:
            yield from _of_object(sdk.nested(shape, wanted.name), given, path)
    elif wanted.kind in {"list", "map"}:
        yield from _of_many(shape, wanted, given, path)
    elif not _is(wanted.kind, given):
        yield Finding(path, f"expected {_NAMES[wanted.kind]}, not {given!r}")


def _of_many(shape: Shape, wanted: Type, given: Any, path: str) -> Iterator[Finding]:
    if not isinstance(given, list if wanted.kind == "list" else dict):
        yield Finding(path, f"expected a {wanted.kind}, not {given!r}")
        return
    items = given.items() if isinstance(given, dict) else enumerate(given)
    for key, item in items:
        yield from _of_value(shape, wanted.of[0], item, f"{path}[{key!r}]")


def _is(kind: str, given: Any) -> bool:
    if isinstance(given, bool):
        return kind == "boolean"
    return isinstance(given, _PYTHON[kind])


def document(resources: dict[str, Shape]) -> dict[str, Any]:
    """Return the package's schema for resources by token, as Pulumi's engine reads it."""
    types: dict[str, Any] = {}
    return {
        "name": "gcp",
        "version": sdk.version(),
        "description": "The types of Google's provider that the test double knows",
        "provider": {},
        "resources": {token: _resource(shape, types) for token, shape in resources.items()},
        "types": types,
    }


def _resource(shape: Shape, types: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _json(shape, one.type, types) for name, one in shape.properties.items()}
    return {
        "inputProperties": properties,
        "requiredInputs": _required(shape.properties),
        "properties": properties,
        "required": [],
    }


def _required(properties: dict[str, Property]) -> list[str]:
    return [name for name, one in properties.items() if one.required]


def _json(shape: Shape, type_: Type, types: dict[str, Any]) -> dict[str, Any]:
    if type_.kind == "object":
        return {"$ref": f"#/types/{_nested(sdk.nested(shape, type_.name), types)}"}
    if type_.kind == "list":
        return {"type": "array", "items": _json(shape, type_.of[0], types)}
    if type_.kind == "map":
        return {"type": "object", "additionalProperties": _json(shape, type_.of[0], types)}
    if type_.kind == "union":
        return {"oneOf": [_json(shape, one, types) for one in type_.of]}
    return {"$ref": "pulumi.json#/Any"} if type_.kind == "any" else {"type": type_.kind}


def _nested(shape: Shape, types: dict[str, Any]) -> str:
    name = shape.name.removesuffix("Args")
    token = f"gcp:{shape.folder or 'index'}/{name}:{name}"
    if token not in types:
        types[token] = {}  # before its properties, which may come back to it
        types[token] = {
            "type": "object",
            "properties": {key: _json(shape, one.type, types) for key, one in shape.properties.items()},
            "required": _required(shape.properties),
        }
    return token

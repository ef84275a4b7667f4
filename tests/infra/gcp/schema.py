"""The provider's own schema, and what it has against the inputs of a resource.

The double's is what the installed SDK's types say; with ``ASSIST_REAL_GCP=1`` it is that of Google's provider.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from testing.gcp.double import on_path, plugin

JSON_TYPES = {"string": (str,), "boolean": (bool,), "integer": (int, float), "number": (int, float)}


@cache
def of_provider(home: Path) -> dict[str, Any]:
    """Return the schema of the provider in use; ``home`` is a folder for Pulumi's own files."""
    pulumi = {"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(
        ["pulumi", "package", "get-schema", str(plugin())],
        env=os.environ | on_path(os.environ, home / "google") | pulumi,
        capture_output=True,
        timeout=240,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def findings(schema: dict[str, Any], kind: str, inputs: dict[str, Any]) -> list[str]:
    """Return what is unknown, of the wrong type or not one of the allowed values, by its path."""
    return list(_of_object(schema, schema["resources"][kind]["inputProperties"], inputs, kind))


def _of_object(
    schema: dict[str, Any], properties: dict[str, Any], given: dict[str, Any], path: str
) -> Iterator[str]:
    for name, value in given.items():
        if name not in properties:
            yield f"{path}.{name} is unknown"
        else:
            yield from _of_value(schema, properties[name], value, f"{path}.{name}")


def _of_value(schema: dict[str, Any], wanted: dict[str, Any], given: Any, path: str) -> Iterator[str]:
    if "$ref" in wanted:
        yield from _of_reference(schema, wanted["$ref"], given, path)
    elif "oneOf" in wanted:
        choices = [list(_of_value(schema, one, given, path)) for one in wanted["oneOf"]]
        yield from min(choices, key=len)
    elif wanted["type"] == "array":
        if not isinstance(given, list):
            yield f"{path} is not a list"
        else:
            for index, item in enumerate(given):
                yield from _of_value(schema, wanted["items"], item, f"{path}[{index}]")
    elif wanted["type"] == "object":
        if not isinstance(given, dict):
            yield f"{path} is not an object"
    elif not isinstance(given, JSON_TYPES[wanted["type"]]) or (
        isinstance(given, bool) and wanted["type"] != "boolean"
    ):
        yield f"{path} is not a {wanted['type']}"


def _of_reference(schema: dict[str, Any], reference: str, given: Any, path: str) -> Iterator[str]:
    kind = schema["types"][reference.removeprefix("#/types/")]
    if "enum" in kind:
        allowed = [one["value"] for one in kind["enum"]]
        if given not in allowed:
            yield f"{path} is none of {allowed}"
    elif not isinstance(given, dict):
        yield f"{path} is not an object"
    else:
        for name in sorted(set(kind.get("required", [])) - set(given)):
            yield f"{path}.{name} is missing"
        yield from _of_object(schema, kind["properties"], given, path)

"""The types that are read from the SDK's source are those that Python sees, and cover what the program uses."""

import ast
import importlib
import re
import typing
from pathlib import Path

import pulumi
import pytest
from pulumi import _types

from stackfile.catalogue import ROOT
from testing.gcp import sdk
from testing.gcp.kinds import KINDS, LOOKUPS
from tests.infra.gcp.recorder import deploy
from tests.infra.gcp.stacks import stack

# Classes that are inputs of inputs, as deep as they go; some contain themselves.
_DEPTH = 6
VARIANTS = [
    {},
    {"endpoint": "private", "gpu_pool__driver": "none"},
    {"endpoint": "public", "release_channel": "none", "version": "1.33.5-gke.100"},
    {"autopilot": True, "gpu_pool__spot": False},
]


def loaded(file, name):
    folder = importlib.import_module(f"pulumi_gcp.{file.partition('/')[0]}")
    assert (
        folder.__all__ if hasattr(folder, "__all__") else dir(folder)
    )  # the SDK loads a folder when it is looked into
    return getattr(importlib.import_module(f"pulumi_gcp.{file.replace('/', '.')}"), name)


@pytest.mark.parametrize("token", KINDS)
def test_the_source_says_what_python_sees(token):
    kind = KINDS[token]
    for shape in (kind.inputs(), kind.outputs()):
        compare(shape, loaded(kind.file, shape.name), kind.file, _DEPTH)


def compare(shape, real, file, depth):
    """Hold names, required ones and types of a class and of the classes in it against the class itself."""
    seen = _types.input_type_types(real)
    assert set(shape.properties) == set(seen)
    names = {wire: python for python, wire in _types.input_type_py_to_pulumi_names(real).items()}
    for name, hint in seen.items():
        mine = shape.properties[name]
        assert mine.required is (names[name] not in (real.__init__.__kwdefaults__ or {})), name
        assert mine.type.kind == kind_of(hint), (shape.name, name)
        for inner, real_inner in nested(mine.type, hint) if depth else ():
            compare(sdk.nested(shape, inner.name), real_inner, file, depth - 1)


def unwrapped(hint):
    """Return the type in a hint such as ``Union[T, Awaitable[T], Output[T]]``."""
    kept = [one for one in typing.get_args(hint) if not re.search("Awaitable|Output|NoneType", str(one))]
    return kept[0] if typing.get_origin(hint) is typing.Union and len(kept) == 1 else hint


def kind_of(hint):
    origin = typing.get_origin(hint)
    names = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if hint in names:
        return names[hint]
    if origin is None:
        return "any" if hint in {typing.Any, pulumi.Asset, pulumi.Archive} else "object"
    return {"Sequence": "list", "Mapping": "map"}.get(getattr(origin, "__name__", ""), "union")


def nested(mine, seen):
    """Yield the classes in a type, as read and as seen."""
    if mine.kind == "object":
        yield mine, seen
    elif mine.kind in {"list", "map"}:
        yield from nested(mine.of[0], unwrapped(typing.get_args(seen)[-1]))


@pytest.mark.parametrize("changes", VARIANTS, ids=["as it is", "private", "public", "autopilot"])
def test_the_double_knows_every_type_that_a_stack_registers(changes):
    registered = {one.typ for one in deploy(stack(**changes))[0].resources if one.typ.startswith("gcp:")}
    assert len(registered) >= 8
    assert registered <= set(KINDS)


def test_the_double_knows_every_type_and_lookup_that_the_program_names():
    types, lookups = set(), set()
    for file in Path(ROOT / "infra").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("gcp."):
                _, *folder, name = ast.unparse(call.func).split(".")
                if name.startswith("get_"):
                    lookups.add((*folder, name))
                elif folder and not name.endswith("Args"):
                    types.add((*folder, name))
    assert len(types) >= 9
    assert types <= {(token.split(":")[1].split("/")[0], token.rpartition(":")[2]) for token in KINDS}
    known = {(token.split(":")[1].split("/")[0], token.rpartition(":")[2].lower()) for token in LOOKUPS}
    assert {(folder, name.replace("_", "")) for folder, name in lookups} <= known

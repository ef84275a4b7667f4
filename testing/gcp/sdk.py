"""The input types of the installed ``pulumi_gcp``, read from its source: importing it would take seconds.

The SDK is generated, so every class has the same shape: the constructor's annotations are the properties' types,
a parameter without a default is required, and each getter gives the property's name on the wire.
``tests/gcp`` holds what is read here against what Python itself sees after an import.
"""

import ast
import importlib.util
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Type:
    """``kind``: string, boolean, integer, number, any, list, map, object or union; ``of``: what it is made of."""

    kind: str
    of: tuple["Type", ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Property:
    """One property by its name on the wire."""

    type: Type
    required: bool = False


@dataclass(frozen=True)
class Shape:
    """The properties of a class of the SDK. ``folder``: where its nested classes are, such as ``container``."""

    name: str
    folder: str
    properties: dict[str, Property] = field(hash=False)


class SdkError(Exception):
    """The SDK is not installed, or does not have what is asked for."""


_SCALARS = {"str": "string", "bool": "boolean", "int": "integer", "float": "number"}
_ANY = Type("any")


@cache
def root() -> Path:
    """Return the folder of the installed SDK. Raises SdkError."""
    found = importlib.util.find_spec("pulumi_gcp")
    if found is None or not found.submodule_search_locations:
        raise SdkError("pulumi_gcp is not installed; run: scripts/bootstrap .venv requirements/dev.txt")
    return Path(next(iter(found.submodule_search_locations)))


def version() -> str:
    """Return the version of the SDK. Raises SdkError."""
    text = (root() / "pulumi-plugin.json").read_text(encoding="utf-8")
    found = re.search(r'"version":\s*"([^"]+)"', text)
    if found is None:
        raise SdkError(f"{root()}/pulumi-plugin.json names no version")
    return found[1]


@cache
def shape(file: str, name: str) -> Shape:
    """Return a class of ``pulumi_gcp/<file>.py``, such as ``container/node_pool`` and ``NodePoolArgs``.

    Raises SdkError where the SDK has no such class.
    """
    block = _class(file, name)
    wire = {python: given or python for given, python in _GETTER.findall(block)}
    arguments = _constructor(block)
    properties = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.annotation is not None:
            kind = _type(argument.annotation)
            properties[wire[argument.arg]] = Property(kind, required=default is None)
    return Shape(name, file.rpartition("/")[0], properties)


def nested(parent: Shape, name: str) -> Shape:
    """Return a class that is the type of one of ``parent``'s properties. Raises SdkError."""
    return shape(f"{parent.folder}/_inputs".lstrip("/"), name)


_GETTER = re.compile(
    r'^    @pulumi\.getter(?:\(name="(\w+)"\))?\n(?:    @.*\n)*    def (\w+)\(', re.MULTILINE
)
_SIGNATURE = re.compile(r"^    def __init__\(__self__.*?\):$", re.MULTILINE | re.DOTALL)


@cache
def _blocks(file: str) -> dict[str, str]:
    """Return the source of each class of a file by its name."""
    path = root() / f"{file}.py"
    if not path.is_file():
        raise SdkError(f"pulumi_gcp {version()} has no {file}.py")
    text = path.read_text(encoding="utf-8")
    starts = [(found[1], found.start()) for found in re.finditer(r"^class (\w+)", text, re.MULTILINE)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    return {name: text[start:end] for (name, start), end in zip(starts, ends, strict=True)}


def _class(file: str, name: str) -> str:
    try:
        return _blocks(file)[name]
    except KeyError:
        raise SdkError(f"pulumi_gcp {version()} has no {name} in {file}.py") from None


def _constructor(block: str) -> ast.arguments:
    found = _SIGNATURE.search(block)
    if found is None:
        raise SdkError(f"no constructor is found in: {block[:80]}")
    (function,) = ast.parse(f"{found[0].strip()} pass").body
    assert isinstance(function, ast.FunctionDef)
    return function.args


def _type(node: ast.expr) -> Type:
    if isinstance(node, ast.Constant):
        return Type("object", name=str(node.value))
    if isinstance(node, ast.Attribute):
        return Type(_SCALARS[node.attr]) if node.attr in _SCALARS else _ANY
    if isinstance(node, ast.Subscript):
        outer = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer in {"Input", "Optional"}:
            return _type(parts[0])
        if outer == "Sequence":
            return Type("list", (_type(parts[0]),))
        if outer == "Mapping":
            return Type("map", (_type(parts[1]),))
        if outer == "Union":
            return Type("union", tuple(map(_type, parts)))
    return _ANY

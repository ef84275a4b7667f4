"""Pydantic's validation errors turned into problems that name the line and the remedy."""

import difflib
import json
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from stackfile.document import Document, Location
from stackfile.errors import Problem


class Strict(BaseModel):
    """Frozen, without coercion or unknown keys: a typo must not pass as a setting without effect."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


M = TypeVar("M", bound=Strict)


def validate(
    document: Document, kind: type[M], stand_ins: dict[str, Any] | None = None
) -> tuple[M | None, list[Problem]]:
    """Return the model, and a problem for every unknown key and invalid value.

    Where only some keys are invalid, the model is built from the rest, with ``stand_ins`` for required keys,
    so that the caller can report further problems in the same run. The model is None where that fails too.
    """
    try:
        return kind.model_validate_json(json.dumps(document.data, default=str)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    problems = [document.problem(details["loc"], _message(details, kind)) for details in errors]
    try:
        rest = (stand_ins or {}) | _without(document.data, [details["loc"] for details in errors])
        return kind.model_validate_json(json.dumps(rest, default=str)), problems
    except ValidationError:
        return None, problems


def _message(details: ErrorDetails, kind: type[Strict]) -> str:
    value = details.get("input")
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(details["loc"], kind)
        case "missing":
            return "is missing and has no default; add it"
        case "string_type" | "int_type" | "bool_type" | "float_type":
            expected = details["type"].removesuffix("_type")
            return f"must be of type {expected}, not {value!r} ({type(value).__name__}); check the quotes"
        case "literal_error":
            return f"{value!r} is not one of {details['ctx']['expected']}"
        case _:
            return f"{details['msg'].removeprefix('Value error, ')} (got {value!r})"


def _unknown_key(location: Location, kind: type[Strict]) -> str:
    keys = _keys_at(kind, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(keys))}"
    return f"is not a setting; {remedy}"


def _keys_at(kind: type[BaseModel], location: Location) -> list[str]:
    for part in location:
        field = kind.model_fields.get(str(part))
        types = get_args(field.annotation) or (field.annotation,) if field else ()
        sections = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        if not sections:
            return []
        kind = sections[0]
    return list(kind.model_fields)


def _without(data: dict[str, Any], locations: list[Location]) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for location in locations:
        parent: Any = kept
        for part in location[:-1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict):
            parent.pop(location[-1], None)
    return kept

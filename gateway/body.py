"""Request bodies: strict about JSON, tolerant about fields, with the errors of each dialect.

orjson refuses NaN, infinities, other encodings than UTF-8 and deep nesting, so none of them reaches a
tokenizer. Lone surrogates become U+FFFD, as in any UTF-8 encoder: an editor that counts UTF-16 units cuts its
context within a character, which is no reason to leave the person without a completion. The Content-Type does
not matter: curl-based editor plugins send none.
"""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.requests import Request

from gateway.errors import ApiError, invalid

_MAX_REPORTED = 5
# Any escape, so that a backslash which is escaped itself begins none; a pair of surrogates is one.
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_REPLACEMENT = rb"\ufffd"


@dataclass
class UnprocessableError(ApiError):
    """GitLab's 422: ``{"detail": [{"type", "loc", "msg"}]}``."""

    detail: list[dict[str, Any]] = field(default_factory=list)


class Body(BaseModel):
    """A request body: unknown fields are ignored, because editors send their own; null means the default."""

    model_config = ConfigDict(extra="ignore", frozen=True)


B = TypeVar("B", bound=Body)


def _no_bool(value: object) -> object:
    """Refuse true and false as numbers, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool)]


def request_schema(model: type[Body]) -> dict[str, Any]:
    """Return the OpenAPI description of a route's body, which ``read_json`` reads instead of FastAPI."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def read_json(request: Request) -> dict[str, Any]:
    """Return the body as an object; raises 400 for anything else."""
    raw = await request.body()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not _SURROGATE.search(raw):
            raise _not_json(error) from None
        # A body of four million escapes takes a second.
        document = await asyncio.to_thread(_read_whole_characters, raw)
    if not isinstance(document, dict):
        raise invalid("The request body must be a JSON object.", code="invalid_json")
    return document


def whole_characters(raw: bytes) -> bytes:
    """Return JSON with U+FFFD for each lone surrogate, the escape of half a character."""
    return _ESCAPE.sub(lambda escape: _REPLACEMENT if escape[2] else escape[0], raw)


def _read_whole_characters(raw: bytes) -> Any:  # noqa: ANN401 -- any JSON
    """Return the document without lone surrogates; raises 400 for invalid JSON."""
    try:
        return orjson.loads(whole_characters(raw))
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None


def _not_json(error: orjson.JSONDecodeError) -> ApiError:
    return invalid(f"The request body is not valid JSON: {error.msg}.", code="invalid_json")


def without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without null members: a client that sends null means the default."""
    return {name: value for name, value in document.items() if value is not None}


def parse(model: type[B], document: dict[str, Any]) -> B:
    """Return the validated body; raises 400 in OpenAI's envelope, naming the parameter."""
    try:
        return model.model_validate(without_nulls(document))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(f"{_path(p['loc'])}: {p['msg']}" for p in problems[:_MAX_REPORTED])
        raise invalid(f"Invalid request: {text}.", param=str(problems[0]["loc"][0])) from None


def parse_gitlab(model: type[B], document: dict[str, Any]) -> B:
    """Return the validated body; raises GitLab's 422."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        detail = [{**p, "loc": ["body", *p["loc"]]} for p in problems[:_MAX_REPORTED]]
        raise UnprocessableError(422, "The request body is not valid.", detail=detail) from None


async def read_gitlab(request: Request) -> dict[str, Any]:
    """Return the body as an object; raises GitLab's 422 for anything else."""
    try:
        return await read_json(request)
    except ApiError as error:
        if error.status != 400:
            raise
        detail = [{"type": "json_invalid", "loc": ["body"], "msg": error.message}]
        raise UnprocessableError(422, error.message, detail=detail) from None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:64] for part in location)

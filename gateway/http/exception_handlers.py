"""Every error leaves in the words of the route it belongs to."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway import error_responses
from gateway.body import UnprocessableError
from gateway.errors import ApiError
from gateway.responses import ClientGone, json_response

_CLIENT_CLOSED = 499


def install(app: FastAPI, *, gitlab: bool) -> None:
    """Register the handlers.

    ``gitlab`` says that GitLab decides who may call, so its bodies are used everywhere.
    """

    async def refused(http: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101  -- registered for this class
        return json_response(
            _body(error, http.url.path, gitlab=gitlab), error.status, error_responses.headers(error)
        )

    async def no_route(http: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  -- registered for this class
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        found = ApiError(error.status_code, str(error.detail), code=code)
        body = error_responses.body(found, http.url.path, gitlab=gitlab)
        return json_response(body, error.status_code, error.headers)

    async def gone(_http: Request, _error: Exception) -> Response:
        return Response(status_code=_CLIENT_CLOSED)

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(ClientGone, gone)


def _body(error: ApiError, path: str, *, gitlab: bool) -> dict[str, Any]:
    if isinstance(error, UnprocessableError):
        return {"detail": error.detail}
    return error_responses.body(error, path, gitlab=gitlab)

"""Exception handlers: every error gets the format of the route it occurred on."""

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
    """Register the handlers; with ``gitlab``, GitLab authenticates, and all paths have its error format."""

    async def api_error(http: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101  -- registered for this class
        return json_response(
            _body(error, http.url.path, gitlab=gitlab), error.status, error_responses.headers(error)
        )

    async def http_exception(http: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  -- registered for this class
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        missing = ApiError(error.status_code, str(error.detail), code=code)
        body = error_responses.body(missing, http.url.path, gitlab=gitlab)
        return json_response(body, error.status_code, error.headers)

    async def client_gone(_http: Request, _error: Exception) -> Response:
        return Response(status_code=_CLIENT_CLOSED)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(ClientGone, client_gone)


def _body(error: ApiError, path: str, *, gitlab: bool) -> dict[str, Any]:
    if isinstance(error, UnprocessableError):
        return {"detail": error.detail}
    return error_responses.body(error, path, gitlab=gitlab)

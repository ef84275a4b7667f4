"""Translation of gRPC's and Triton's errors into the gateway's.

The server's own text is never passed on: it may hold paths and prompt text.
"""

import grpc

from gateway.errors import ApiError, bad_gateway, deadline, unavailable

_FULL = ("maximum queue size", "Exceeds maximum")
# The last one is this project's own backend's.
_EXPIRED = ("timeout expired", "Request timeout", "timeout has passed")
_NO_MODEL = ("unknown model", "has no available versions")
_STOPPING = ("Server is stopping", "Server not ready", "Server exiting")
_CODES = grpc.StatusCode


def is_overload(details: str) -> bool:
    """Return whether Triton refused because its queue is full: the server is up, only busy."""
    return any(phrase in details for phrase in _FULL)


def is_expiry(details: str) -> bool:
    """Return whether Triton dropped the request from its queue because the request's time was up."""
    return any(phrase in details for phrase in _EXPIRED)


def is_unreachable(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the server could not be reached: a retry may help, and the breaker counts it."""
    details = error.details() or ""
    return error.code() is _CODES.UNAVAILABLE and not is_overload(details) and not is_expiry(details)


def is_without_model(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the server runs without the model: while it stops or starts, or because it has none.

    Triton reports that with UNAVAILABLE and INVALID_ARGUMENT as well as with NOT_FOUND.
    """
    details = error.details() or ""
    return error.code() is _CODES.NOT_FOUND or any(phrase in details for phrase in _NO_MODEL)


def from_details(details: str) -> ApiError:
    """Return the error for a message inside a stream, which carries no status code."""
    if is_overload(details):
        return unavailable("The model server's queue is full. Try again shortly.", 1.0, "overloaded")
    if is_expiry(details):
        return deadline("The model server had no time for the request within its deadline.")
    return bad_gateway("The model server failed on this request. Its log says why.")


def in_stream(details: str) -> Exception:
    """Return the exception for a message inside a stream.

    A server that is stopping reports so there too, but without a status; that becomes an ``AioRpcError``.
    """
    for code, phrases in ((_CODES.NOT_FOUND, _NO_MODEL), (_CODES.UNAVAILABLE, _STOPPING)):
        if any(phrase in details for phrase in phrases):
            empty = grpc.aio.Metadata()
            absent: Exception = grpc.aio.AioRpcError(code, empty, empty, details)
            return absent
    return from_details(details)


def from_rpc(error: grpc.aio.AioRpcError) -> ApiError:
    """Return the error for a failed call."""
    code, details = error.code(), error.details() or ""
    if code is _CODES.DEADLINE_EXCEEDED:
        return deadline("The model server did not answer within the request's deadline.")
    if is_without_model(error):
        return unavailable("The model is not loaded on the model server yet. Try again shortly.", 5.0)
    if code is _CODES.UNAVAILABLE:
        if is_overload(details) or is_expiry(details):
            return from_details(details)
        return unavailable("The model server is not reachable. Try again shortly.")
    if code is _CODES.CANCELLED:
        return unavailable("The model server dropped the request. Try again shortly.")
    if code is _CODES.RESOURCE_EXHAUSTED:
        return bad_gateway("The request to the model server, or its response, is larger than allowed.")
    return from_details(details)

"""gRPC and Triton errors as ours.

The server's own text is never echoed: it may hold paths and prompt text.
"""

import grpc

from gateway.errors import ApiError, bad_gateway, deadline, unavailable

_FULL = ("maximum queue size", "Exceeds maximum")
# The last is our own backend's.
_EXPIRED = ("timeout expired", "Request timeout", "timeout has passed")
_NO_MODEL = ("unknown model", "has no available versions")
_STOPPING = ("Server is stopping", "Server not ready", "Server exiting")
_CODES = grpc.StatusCode


def is_overload(details: str) -> bool:
    """Say whether Triton refused because its queue is full: it is there, only busy."""
    return any(sign in details for sign in _FULL)


def is_expiry(details: str) -> bool:
    """Say whether Triton dropped the request from its queue because its time was up."""
    return any(sign in details for sign in _EXPIRED)


def is_unreachable(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the server could not be reached: another try may help, and the breaker must count."""
    details = error.details() or ""
    return error.code() is _CODES.UNAVAILABLE and not is_overload(details) and not is_expiry(details)


def is_without_model(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the server is there without the model: one that stops or starts, or has never had it.

    Triton says so with UNAVAILABLE and INVALID_ARGUMENT as well as with NOT_FOUND.
    """
    details = error.details() or ""
    return error.code() is _CODES.NOT_FOUND or any(sign in details for sign in _NO_MODEL)


def from_details(details: str) -> ApiError:
    """Return the error for a message inside a stream, which carries no status code."""
    if is_overload(details):
        return unavailable("The model server's queue is full. Try again shortly.", 1.0, "overloaded")
    if is_expiry(details):
        return deadline("The model server had no time for the request within its deadline.")
    return bad_gateway("The model server failed on this request. Its log says why.")


def in_stream(details: str) -> Exception:
    """Return what to raise for a message inside a stream.

    A server that stops says so here as well, but without a status.
    """
    for code, signs in ((_CODES.NOT_FOUND, _NO_MODEL), (_CODES.UNAVAILABLE, _STOPPING)):
        if any(sign in details for sign in signs):
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
        return bad_gateway("The model server's answer, or the request, is larger than allowed.")
    return from_details(details)

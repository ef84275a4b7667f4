"""gRPC and Triton errors as ours.

The server's own text is never echoed: it may hold paths and prompt text.
"""

import grpc

from api.errors import ApiError, bad_gateway, deadline, unavailable

_FULL = ("maximum queue size", "Exceeds maximum")
_EXPIRED = ("timeout expired", "Request timeout")
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


def from_details(details: str) -> ApiError:
    """Return the error for a message inside a stream, which carries no status code."""
    if is_overload(details):
        return unavailable("The model server's queue is full. Try again shortly.", 1.0, "overloaded")
    if is_expiry(details):
        return deadline("The model server had no time for the request within its deadline.")
    return bad_gateway("The model server failed on this request. Its log says why.")


def from_rpc(error: grpc.aio.AioRpcError) -> ApiError:
    """Return the error for a failed call."""
    code, details = error.code(), error.details() or ""
    if code is _CODES.DEADLINE_EXCEEDED:
        return deadline("The model server did not answer within the request's deadline.")
    if code is _CODES.UNAVAILABLE:
        if is_overload(details) or is_expiry(details):
            return from_details(details)
        return unavailable("The model server is not reachable. Try again shortly.")
    if code is _CODES.NOT_FOUND or "unknown model" in details:
        return unavailable("The model is not loaded on the model server yet. Try again shortly.", 5.0)
    if code is _CODES.CANCELLED:
        return unavailable("The model server dropped the request. Try again shortly.")
    if code is _CODES.RESOURCE_EXHAUSTED:
        return bad_gateway("The model server's answer, or the request, is larger than allowed.")
    return from_details(details)

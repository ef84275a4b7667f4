"""The errors that a caller can see, and OpenAI's envelope for them.

A failure is never an empty success: FauxPilot answers 200 with ``choices: []`` when its backend is down
(fauxpilot#122, #198), and editors show that as "no suggestions".
"""

from dataclasses import dataclass, field


@dataclass
class ApiError(Exception):
    """An error response: an HTTP status, an OpenAI error type and code, and the remedy in its message.

    ``retry_after`` is in seconds; it becomes the ``Retry-After`` header and must be set for 429 and 503.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def envelope(self) -> dict[str, dict[str, str | None]]:
        """Return OpenAI's error body: ``{"error": {"message", "type", "param", "code"}}``."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400: the request is wrong, and a retry will not help."""
    return ApiError(400, message, param=param, code=code)


def unauthenticated(message: str) -> ApiError:
    """Return a 401 with the ``WWW-Authenticate`` header that RFC 9110 section 11.6.1 requires."""
    return ApiError(
        401, message, "authentication_error", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
    )


def forbidden(message: str) -> ApiError:
    """Return a 403: the caller is known and may not do this."""
    return ApiError(403, message, "permission_error", "insufficient_permissions")


def too_large(limit_bytes: int) -> ApiError:
    """Return a 413 that names the limit in bytes."""
    return ApiError(
        413,
        f"The request body is larger than {limit_bytes} bytes. Send less context.",
        code="request_too_large",
    )


def quota(message: str, retry_after: float) -> ApiError:
    """Return a 429: this caller is over its own limit; others are not affected."""
    return ApiError(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=retry_after)


def replaced(message: str) -> ApiError:
    """Return a 499 (NGINX's "client closed request"): nobody waits for this answer, and no client retries."""
    return ApiError(499, message, code="request_replaced")


def unavailable(message: str, retry_after: float = 1.0, code: str = "upstream_unavailable") -> ApiError:
    """Return a 503: the server is full or stopping, or the engine is down; a later retry may help."""
    return ApiError(503, message, "server_error", code, retry_after=retry_after)


def deadline(message: str) -> ApiError:
    """Return a 504: the engine did not respond within the request's deadline."""
    return ApiError(504, message, "server_error", "timeout")


def bad_gateway(message: str) -> ApiError:
    """Return a 502: the engine returned an invalid response."""
    return ApiError(502, message, "server_error", "upstream_invalid_response")

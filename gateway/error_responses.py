"""Error responses: an ``ApiError`` in the format that each dialect's clients read.

GitLab's clients read ``{"error": message}`` for 401 and ``{"detail": message}`` for the rest: on ``/v2`` and
later, and on all paths where GitLab authenticates. All others read OpenAI's envelope.
"""

import json
import math
import re
from typing import Any

from starlette.types import Send

from gateway.errors import ApiError

_GITLAB_PATH = re.compile(r"/v[234](/|$)")


def is_gitlab(path: str) -> bool:
    """Return whether GitLab's clients call this path."""
    return _GITLAB_PATH.match(path) is not None


def body(error: ApiError, path: str, *, gitlab: bool = False) -> dict[str, Any]:
    """Return the JSON body of an error response on ``path``; ``gitlab``: GitLab authenticates callers."""
    if not (gitlab or is_gitlab(path)):
        return error.envelope()
    return {"error" if error.status == 401 else "detail": error.message}


def headers(error: ApiError) -> dict[str, str]:
    """Return an error response's headers; Retry-After is in whole seconds (RFC 9110 section 10.2.3)."""
    fields = dict(error.headers)
    if error.retry_after is not None:
        fields["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return fields


async def respond(send: Send, error: ApiError, path: str, *, gitlab: bool = False) -> None:
    """Send the whole error response from a middleware."""
    content = json.dumps(body(error, path, gitlab=gitlab)).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers(error)}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})

"""Turn an ``ApiError`` into the bytes each dialect's clients understand.

GitLab's callers read ``{"error": message}`` for 401 and ``{"detail": message}`` for the rest, on ``/v2`` and
later and, where GitLab decides who may call, everywhere. All others read OpenAI's envelope.
"""

import json
import math
import re
from typing import Any

from starlette.types import Send

from gateway.errors import ApiError

_GITLAB_PATH = re.compile(r"/v[234](/|$)")


def is_gitlab(path: str) -> bool:
    """Say whether GitLab's clients call this path."""
    return _GITLAB_PATH.match(path) is not None


def body(error: ApiError, path: str, *, gitlab: bool = False) -> dict[str, Any]:
    """Return the JSON body of a refusal on ``path``; ``gitlab`` says who authenticates."""
    if not (gitlab or is_gitlab(path)):
        return error.envelope()
    return {"error" if error.status == 401 else "detail": error.message}


def headers(error: ApiError) -> dict[str, str]:
    """Return a refusal's headers; Retry-After is whole seconds (RFC 9110 section 10.2.3)."""
    found = dict(error.headers)
    if error.retry_after is not None:
        found["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return found


async def respond(send: Send, error: ApiError, path: str, *, gitlab: bool = False) -> None:
    """Send the whole refusal from a middleware."""
    content = json.dumps(body(error, path, gitlab=gitlab)).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers(error)}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})

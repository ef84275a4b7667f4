"""The token request that GitHub Copilot's plug-ins send before their first completion."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.responses import json_response

router = APIRouter()
# FauxPilot's date, in 2052: every completion checks whether its key is valid, not this route.
_EXPIRES_AT = 2_600_000_000
_REFRESH_S = 900


@router.get("/copilot_internal/v2/token")
async def token(http: Request) -> Response:
    """Return the token that the plug-in sends with each completion.

    The token is the key that the caller presented, so that a user's own key reaches the completion routes, or
    FauxPilot's "1" without a key. No key is checked here: the plug-in sends this request before it has one,
    and the response reveals nothing.
    """
    _, _, presented = http.headers.get("authorization", "").strip().partition(" ")
    return json_response(
        {
            "token": presented.strip() or "1",
            "expires_at": _EXPIRES_AT,
            "refresh_in": _REFRESH_S,
        }
    )

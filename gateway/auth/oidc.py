"""GitLab's OIDC tokens: JSON Web Tokens that a GitLab server signs, verified here without a request to it.

A request with ``X-Gitlab-Authentication-Type: oidc`` carries one (GitLab AI gateway, since 2023). The
signature's algorithm is fixed here, never taken from the token (RFC 8725 section 3.1).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt

from gateway import errors
from gateway.auth.gitlab import FORBIDDEN
from gateway.auth.jwks import ALGORITHM, SigningKeys
from gateway.auth.token_cache import salted_key

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

UNSCOPED = "Unauthorized to access code completions"
_MAX_KEY_ID = 256
# Claim and the header that must repeat it, in the order in which GitLab's gateway reports them.
_REPEATED = (("gitlab_realm", "X-Gitlab-Realm"), ("sub", "X-Gitlab-Instance-Id"))


class Oidc:
    """Verifies tokens of one issuer; the caller is the GitLab instance or user in ``sub``."""

    def __init__(self, settings: "Settings", keys: SigningKeys, salt: bytes, metrics: "Metrics") -> None:
        self._settings, self._keys, self._salt, self._metrics = settings, keys, salt, metrics

    async def verify(self, token: str, headers: Mapping[str, str]) -> str:
        """Return the caller's salted id.

        Raises 401 for a token that is not valid or belongs to another instance, 403 for one without the
        scope, 503 when GitLab's keys cannot be fetched.
        """
        claims = await self._claims(token)
        for claim, header in _REPEATED:
            if claims.get(claim) and claims[claim] != headers.get(header):
                raise self._denied(f"Header mismatch '{header}'")
        scopes = claims.get("scopes")
        if not isinstance(scopes, list) or not self._settings.scopes.intersection(map(str, scopes)):
            self._metrics.auth("denied")
            raise errors.forbidden(UNSCOPED)
        self._metrics.auth("allowed")
        return salted_key(self._salt, str(claims["iss"]), str(claims.get("sub", "")))

    async def _claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token with a valid signature, audience, issuer and time."""
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            if header.get("alg") != ALGORITHM or not isinstance(key_id, str) or len(key_id) > _MAX_KEY_ID:
                raise jwt.InvalidTokenError
            key = await self._keys.find(key_id)
            if key is None:
                raise jwt.InvalidTokenError
            return jwt.decode(
                token, key, algorithms=[ALGORITHM], audience=settings.oidc_audience,
                issuer=settings.oidc_issuer or settings.gitlab_url, leeway=settings.oidc_leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
        except (jwt.PyJWTError, RecursionError):
            # The failed check would help to forge a token; GitLab's message does not name it either.
            raise self._denied(FORBIDDEN) from None

    def _denied(self, message: str) -> errors.ApiError:
        self._metrics.auth("denied")
        return errors.unauthenticated(message)

    async def close(self) -> None:
        """Close the connections to GitLab."""
        await self._keys.close()

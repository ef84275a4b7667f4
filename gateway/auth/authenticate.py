"""Authenticate a request before its body is read.

Modes: ``keys`` (API keys of this service), ``gitlab`` (a GitLab server decides) and ``none`` (one caller per
client address). Headers: ``Authorization: Bearer KEY``, ``Authorization: token KEY`` (Copilot), ``X-Api-Key``
and ``api-key`` (Continue sends all of them). The messages of ``gitlab`` mode are those of GitLab's gateway of
2023.
"""

import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Protocol

from fastapi import Request
from starlette.datastructures import Headers

from gateway import error_responses, errors
from gateway.auth.gitlab import FORBIDDEN
from gateway.caller import ANONYMOUS, Caller

if TYPE_CHECKING:
    from gateway.auth.gitlab import GitLab
    from gateway.auth.key_store import KeyStore
    from gateway.auth.oidc import Oidc
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

MISSING = "No authorization header presented"
INVALID = "Invalid authorization header"
NO_KEY = 'No API key presented. Send "Authorization: Bearer <your key>".'
WRONG_KEY = "Invalid API key. Check the key in your editor's settings."
ONLY_OIDC = "Invalid authentication token type - only OIDC is supported"
_SCHEMES = ("bearer", "token")
_KEY_HEADERS = ("x-api-key", "api-key")
_MAX_SECRET = 8192


class Authenticator(Protocol):
    """One way of identifying callers."""

    async def caller(self, request: Request) -> Caller:
        """Return the caller.

        Raises ``ApiError`` 401 with the remedy, 403 for a token without the scope, 503 when the
        authentication provider does not respond.
        """
        ...


async def authenticate(request: Request) -> Caller:
    """Return who is calling (a FastAPI dependency); raises ``ApiError`` as the configured mode does."""
    authenticator: Authenticator = request.app.state.edge.authenticator
    started = time.perf_counter()
    try:
        caller = await authenticator.caller(request)
    finally:
        request.scope["assist.auth_s"] = round(time.perf_counter() - started, 6)
    request.scope["assist.caller"] = caller.id
    return caller


class Anonymous:
    """No authentication: limits apply per client address; an IPv6 /64 is one client (RFC 6177)."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings

    async def caller(self, request: Request) -> Caller:
        """Return the caller of the client's address."""
        return _with_defaults(self._settings, _address(request), ANONYMOUS)


class ByKey:
    """Authentication by API keys of this service."""

    def __init__(self, settings: "Settings", store: "KeyStore", metrics: "Metrics") -> None:
        self._settings, self._store, self._metrics = settings, store, metrics

    async def caller(self, request: Request) -> Caller:
        """Return the key's caller; 401 says whether the key is missing, unknown, expired or revoked.

        GitLab's clients compare messages, so they get GitLab's.
        """
        gitlab = error_responses.is_gitlab(request.url.path)
        secret = credential(request.headers)
        if secret is None:
            self._metrics.auth("missing")
            raise errors.unauthenticated(MISSING if gitlab else NO_KEY)
        key, reason = self._store.find(secret)
        if key is None or reason is not None:
            self._metrics.auth("denied")
            raise errors.unauthenticated(FORBIDDEN if gitlab else reason or WRONG_KEY)
        self._metrics.auth("allowed")
        return Caller(
            id=key.id,
            user=key.user,
            rpm=self._settings.default_rpm if key.rpm is None else key.rpm,
            tpm=self._settings.default_tpm if key.tpm is None else key.tpm,
            concurrency=self._settings.default_concurrency if key.concurrency is None else key.concurrency,
        )


class ByGitLab:
    """Authentication by a GitLab server: its signature on an OIDC token, or its API's check of a token."""

    def __init__(self, settings: "Settings", gitlab: "GitLab", oidc: "Oidc", metrics: "Metrics") -> None:
        self._settings, self._gitlab, self._oidc, self._metrics = settings, gitlab, oidc, metrics

    async def caller(self, request: Request) -> Caller:
        """Return the token's caller under a salted id; raises 401, 403 or 503 as the verifiers do.

        Only ``Bearer`` is accepted, as upstream.
        """
        header = request.headers.get("authorization")
        if header is None:
            self._metrics.auth("missing")
            raise errors.unauthenticated(MISSING)
        token = _after_scheme(header, ("bearer",))
        if token is None:
            raise self._denied(INVALID)
        if request.headers.get("x-gitlab-authentication-type", "").lower() == "oidc":
            return self._caller_of(await self._oidc.verify(token, request.headers))
        if not self._settings.gitlab_check_path:
            raise self._denied(ONLY_OIDC)
        return self._caller_of(await self._gitlab.verify(token))

    def _caller_of(self, salted_id: str) -> Caller:
        return _with_defaults(self._settings, f"gl-{salted_id[:16]}", "gitlab")

    def _denied(self, message: str) -> errors.ApiError:
        self._metrics.auth("denied")
        return errors.unauthenticated(message)


def credential(headers: Headers) -> str | None:
    """Return the secret that a client presents, or ``None``; raises 401 for an unsupported scheme."""
    header = headers.get("authorization")
    if header:
        secret = _after_scheme(header, _SCHEMES)
        if secret is None:
            raise errors.unauthenticated(f'{INVALID}. Send "Authorization: Bearer <your key>".')
        return secret
    return next((headers[name].strip() for name in _KEY_HEADERS if headers.get(name)), None)


def _after_scheme(header: str, schemes: tuple[str, ...]) -> str | None:
    """Return the text after one of the schemes, which are not case-sensitive (RFC 9110 section 11.1)."""
    scheme, _, secret = header.strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() not in schemes or not secret or len(secret) > _MAX_SECRET or not _is_token(secret):
        return None
    return secret


def _is_token(secret: str) -> bool:
    """Return whether the text is visible ASCII without spaces (RFC 6750 section 2.1)."""
    return secret.isascii() and secret.isprintable() and " " not in secret


def _with_defaults(settings: "Settings", caller_id: str, user: str) -> Caller:
    return Caller(caller_id, user, settings.default_rpm, settings.default_tpm, settings.default_concurrency)


def _address(request: Request) -> str:
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return ANONYMOUS
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False).network_address)
    return str(address)

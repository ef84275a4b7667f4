"""HTTP over urllib3, with a redirect policy of its own.

urllib3 rather than httpx: its ``read1`` returns large socket reads unparsed, whereas h11 parses every 64 KiB
in Python; on a fast network this difference limits the rate (``benchmarks/bench_loader.py``).
"""

import ipaddress
import socket
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError
from urllib3.response import BaseHTTPResponse

from model_loader.errors import RangesError, RedirectError, SourceError, TransientError
from model_loader.retry import retry_after

MAX_REDIRECTS = 5
MAX_DRAIN = 64 * 1024
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})

Origin = tuple[str, str, int]
Authorize = Callable[[str, Mapping[str, str]], Mapping[str, str]]
"""Returns the headers that authorise a request for an address with the given headers."""


@dataclass(frozen=True)
class HttpOptions:
    """How to connect.

    Attributes:
        allow_http: allow unencrypted http to hosts other than loopback.
        ca: PEM file of additional certificate authorities.
        connect_s: timeout of a connection attempt in seconds.
        stall_s: seconds without data after which a connection is closed.
        hosts: allowed redirect targets besides the source itself; None allows any.
        headers: headers of every request.

    """

    allow_http: bool = False
    ca: Path | None = None
    connect_s: float = 10.0
    stall_s: float = 30.0
    hosts: frozenset[str] | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"User-Agent": "model-loader/1", "Accept": "*/*"})


def safe(url: str) -> str:
    """Return ``url`` without user and query, for messages: signed links carry credentials in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin_of(parts: SplitResult) -> Origin:
    """Return scheme, host and port, to which a token is bound. Raises SourceError for an invalid port."""
    try:
        return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise SourceError(f"invalid port in the address ({error}).") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []  # the connection attempt reports the cause, and a proxy may resolve the name
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]


def _ssl_context(ca: Path | None) -> ssl.SSLContext:
    # create_default_context reads SSL_CERT_FILE and SSL_CERT_DIR through OpenSSL's default paths.
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as error:
            raise SourceError(f"--ca {ca}: cannot read PEM certificates ({error}).") from error
    return context


class Transport:
    """Reads from one origin; the token is sent to its scheme, host and port only."""

    def __init__(
        self,
        base: str,
        token: str | None,
        options: HttpOptions,
        connections: int = 8,
        *,
        authorize: Authorize | None = None,
    ) -> None:
        """Prepare the connection pools; ``authorize`` takes the place of the bearer ``token``.

        Raises SourceError for an invalid or insecure address.
        """
        parts = urlsplit(base)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SourceError(f"source {safe(base)!r} is not an http(s) address.")
        if parts.username or parts.password:
            raise SourceError("credentials in an address can leak into logs; use HF_TOKEN or --token-file.")
        self.origin = origin_of(parts)
        self._loopback = _is_loopback(self.origin[1])
        if parts.scheme == "http" and not (self._loopback or options.allow_http):
            raise SourceError(
                f"{safe(base)}: unencrypted http is refused; use https, or --allow-http on a trusted network."
            )
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        self._authorize = authorize or (lambda _url, _headers: bearer)
        self._options = options
        self._pools = self._managers(connections)

    def _managers(self, connections: int) -> dict[str, urllib3.PoolManager]:
        common: dict[str, Any] = {"maxsize": connections, "block": False}
        common["ssl_context"] = _ssl_context(self._options.ca)
        pools: dict[str, urllib3.PoolManager] = {"": urllib3.PoolManager(**common)}
        for scheme, proxy in urllib.request.getproxies().items():
            if scheme in _PORTS:
                pools[scheme] = urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **common)
        return pools

    def _pool(self, parts: SplitResult) -> urllib3.PoolManager:
        # urllib.request.proxy_bypass interprets NO_PROXY as curl does.
        bypass = urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]) or _is_loopback(
            parts.hostname or ""
        )
        return self._pools[""] if bypass else self._pools.get(parts.scheme, self._pools[""])

    def get(self, url: str, headers: dict[str, str] | None = None) -> BaseHTTPResponse:
        """Return an unread 200 or 206 response; redirects are followed as far as the policy allows.

        Raises TransientError (another try may succeed), RangesError (416), SourceError or RedirectError.
        """
        for hop in range(MAX_REDIRECTS + 1):
            response = self._request(url, headers or {})
            if response.status not in REDIRECTS:
                return self._accepted(response, url)
            target = urljoin(url, response.headers.get("Location", ""))
            _finish(response)
            if hop == MAX_REDIRECTS:
                break
            self.check_link(url, target)
            url = target
        raise RedirectError(
            f"{safe(url)}: more than {MAX_REDIRECTS} redirects; check the source for a redirect loop."
        )

    def _request(self, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        parts = urlsplit(url)
        sent_headers = {**self._options.headers, "Accept-Encoding": "identity", **headers}
        if origin_of(parts) == self.origin:
            sent_headers |= self._authorize(url, sent_headers)
        timeout = urllib3.Timeout(connect=self._options.connect_s, read=self._options.stall_s)
        try:
            return self._pool(parts).request(
                "GET", url, headers=sent_headers, redirect=False, retries=False, preload_content=False,
                decode_content=False, timeout=timeout,
            )  # fmt: skip
        except SSLError as error:
            raise _tls_fault(error, parts.hostname or "") from None
        except LocationValueError as error:
            raise SourceError(f"{safe(url)} is not a valid address.") from error
        except (HTTPError, OSError) as error:
            raise TransientError(f"{parts.hostname}: {_reason(error)}") from None

    def check_link(self, source: str, target: str) -> None:
        """Refuse a redirect or link from ``source`` that the policy forbids. Raises RedirectError."""
        was, now = urlsplit(source), urlsplit(target)
        scheme, host, _ = origin_of(now)
        if scheme not in _PORTS or not host:
            raise RedirectError(f"{safe(source)}: redirect to an address that is not http(s) is refused.")
        if now.username is not None or now.password is not None:
            raise RedirectError(f"{safe(source)}: redirect to an address with a user name is refused.")
        if scheme == "http" and (was.scheme == "https" or not (self._loopback or self._options.allow_http)):
            raise RedirectError(f"{safe(source)}: redirect to unencrypted http ({safe(target)}) is refused.")
        if self._options.hosts is not None and host not in self._options.hosts and host != self.origin[1]:
            raise RedirectError(
                f"{safe(source)}: redirect to {host} is refused; allow it with --redirect-host {host}."
            )
        self._check_address(source, host)

    def _check_address(self, source: str, host: str) -> None:
        if host == self.origin[1]:
            return
        addresses = _addresses(host)
        if host.rstrip(".") in _METADATA_NAMES or any(a.is_link_local or a.is_unspecified for a in addresses):
            raise RedirectError(
                f"{safe(source)}: redirect to a link-local or metadata address ({host}) is refused."
            )
        if any(a.is_loopback for a in addresses) and not self._loopback:
            raise RedirectError(f"{safe(source)}: redirect to a loopback address ({host}) is refused.")

    def _accepted(self, response: BaseHTTPResponse, url: str) -> BaseHTTPResponse:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if response.status in {200, 206} and encoding in {"", "identity"}:
            return response
        wait = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        response.close()
        if response.status in {200, 206}:
            raise SourceError(
                f"{safe(url)}: the response is {encoding}-encoded, not identity; fix the server or proxy."
            )
        raise self._refusal(response.status, url, wait)

    def _refusal(self, status: int, url: str, wait: float | None) -> Exception:
        at_origin = origin_of(urlsplit(url)) == self.origin
        # The CDN responds 403 to an expired signed link; the origin issues a new one.
        if status in TRANSIENT or (status in {401, 403} and not at_origin):
            return TransientError(f"{safe(url)}: HTTP status {status}", wait)
        if status == 416:
            return RangesError(f"{safe(url)}: HTTP status 416 (range not satisfiable)")
        if status in {401, 403}:
            return SourceError(
                f"{safe(url)}: access denied (HTTP status {status}). Set HF_TOKEN or --token-file to a token"
                " with read access, and accept the model's licence on the hub if the model is gated.",
                status,
            )
        if status in {404, 410}:
            return SourceError(
                f"{safe(url)}: not found (HTTP status {status}). Check repository, revision and file name.",
                status,
            )
        return SourceError(f"{safe(url)}: unexpected HTTP status {status}.", status)


def _finish(response: BaseHTTPResponse) -> None:
    # Reading a short body makes the connection reusable; a long body costs more than a new connection.
    if (response.length_remaining or 0) <= MAX_DRAIN:
        response.drain_conn()
    else:
        response.close()


def _tls_fault(error: SSLError, host: str) -> Exception:
    cause = error.args[0] if error.args else error
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return TransientError(f"{host}: TLS failed ({_reason(error)})")
    reason = cause.verify_message or "verification failed"
    hint = "for a private certificate authority pass --ca or set SSL_CERT_FILE"
    if "expired" in reason or "not yet valid" in reason:
        hint = "check this machine's clock first (`date`)"
    return SourceError(f"{host}: the server's certificate is not trusted: {reason}; {hint}.")


def _reason(error: BaseException) -> str:
    # Some urllib3 messages contain the whole address with its query; the class name does not.
    cause = error.__cause__ or (error.args[1] if len(error.args) > 1 else None)
    detail = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    name = type(error).__name__.removesuffix("Error")
    return f"{name}: {detail}" if detail else name

"""Addresses in URLs."""

# Where a client on this machine connects to a server that listens on every address.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  -- compared, not bound


def bracketed(address: str) -> str:
    """Return an address as a URL has it: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def local_url(host: str, port: int) -> str:
    """Return the URL at which a client on this machine reaches a server that listens on ``host``."""
    return f"http://{bracketed(_LOOPBACK.get(host, host))}:{port}"

"""Addresses as URLs and clients take them."""

# An address to listen on everywhere, and the one at which a client on the same machine connects.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  -- compared, not bound


def url_host(address: str) -> str:
    """Return an address or a name as the host of a URL: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def local_url(listening: str, port: int) -> str:
    """Return the URL at which a client on this machine reaches a server that listens on ``listening``."""
    return f"http://{url_host(_EVERYWHERE.get(listening, listening))}:{port}"

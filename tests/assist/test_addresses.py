"""Addresses in URLs, of both families."""

import pytest

from assist.addresses import bracketed, local_url


@pytest.mark.parametrize(
    ("address", "expected"), [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "[2001:db8::1]"), ("web", "web")]
)
def test_only_ipv6_is_bracketed(address, expected):
    assert bracketed(address) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("192.0.2.1", "http://192.0.2.1:1")],
)
def test_a_server_on_every_address_is_reached_at_loopback(host, expected):
    assert local_url(host, 1) == expected

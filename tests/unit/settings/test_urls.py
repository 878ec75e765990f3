"""URLs of upstreams and of this gateway, and addresses in logs."""

from __future__ import annotations

import pytest

from gateway.settings.urls import bracketed, host_and_port


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("gateway.test", "gateway.test"),
        ("::", "[::]"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("fe80::1%eth0", "[fe80::1%eth0]"),
    ],
)
def test_only_ipv6_addresses_have_brackets(host: str, shown: str) -> None:
    """A name or an IPv4 address has no colon of its own."""
    assert bracketed(host) == shown
    assert host_and_port(host, 8080) == f"{shown}:8080"

"""The client's address behind trusted proxies, and from nobody else."""

import pytest

from gateway.protocols.http.forwarded import MAX_HOPS, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"])


def client(peer: str, *hops: str, proxies: TrustedProxies = PROXIES) -> str:
    """The address that is found, with one header for each of `hops`."""
    return proxies.client(peer, [(b"x-forwarded-for", hop.encode("latin-1")) for hop in hops])


@pytest.mark.parametrize(
    ("peer", "hops", "expected"),
    [
        ("10.1.2.3", ("203.0.113.9",), "203.0.113.9"),
        ("192.0.2.7", ("203.0.113.9",), "203.0.113.9"),
        # Whatever the client itself sent is left of what the proxy appended.
        ("10.1.2.3", ("127.0.0.1, 198.51.100.1, 203.0.113.9",), "203.0.113.9"),
        ("10.1.2.3", ("203.0.113.9, 10.9.9.9, 10.8.8.8",), "203.0.113.9"),
        ("10.1.2.3", ("198.51.100.1", "203.0.113.9", "10.8.8.8"), "203.0.113.9"),
        ("10.1.2.3", ("10.7.7.7, 10.8.8.8",), "10.7.7.7"),
        ("10.1.2.3", (), "10.1.2.3"),
        ("10.1.2.3", ("",), "10.1.2.3"),
        ("2001:db8:1::5", ("2001:db8:ffff::1",), "2001:db8:ffff::1"),
        ("2001:db8:1::5", ("2001:DB8:FFFF:0::1, 2001:db8:1::6",), "2001:db8:ffff::1"),
        ("::ffff:10.1.2.3", ("203.0.113.9",), "203.0.113.9"),
        ("10.1.2.3", ("::ffff:203.0.113.9",), "203.0.113.9"),
        ("10.1.2.3", ("203.0.113.9:51234",), "203.0.113.9"),
        ("10.1.2.3", ("[2001:db8:ffff::1]:443",), "2001:db8:ffff::1"),
        ("10.1.2.3", ("[2001:db8:ffff::1]",), "2001:db8:ffff::1"),
        ("10.1.2.3", (" 203.0.113.9 ",), "203.0.113.9"),
    ],
)
def test_rightmost_untrusted_address_is_the_client(
    peer: str, hops: tuple[str, ...], expected: str
) -> None:
    """Trusted hops are skipped from the right, over several headers, in both families."""
    assert client(peer, *hops) == expected


@pytest.mark.parametrize(
    "garbage",
    ["unknown", "_hidden", "203.0.113", "1.2.3.4.5", "\xff\x00", "a" * 9000, ",", "fe80::1%" * 9],
)
def test_garbage_ends_the_search_at_the_proxy_that_sent_it(garbage: str) -> None:
    """No text of a header becomes an address, and nothing left of garbage is believed."""
    assert client("10.1.2.3", f"198.51.100.1, {garbage}, 10.8.8.8") == "10.8.8.8"
    assert client("10.1.2.3", f"198.51.100.1, {garbage}") == "10.1.2.3"


@pytest.mark.parametrize("peer", ["203.0.113.1", "2001:db8:2::1", "192.0.2.8", "", "/run/socket"])
def test_header_of_others_is_never_believed(peer: str) -> None:
    """Anyone can send the header; only a trusted peer's counts."""
    assert client(peer, "198.51.100.1") == peer
    assert not PROXIES.trusts(peer)


def test_without_proxies_the_peer_is_the_client() -> None:
    """The default trusts nobody, not even the loopback address."""
    nobody = TrustedProxies()

    assert client("127.0.0.1", "198.51.100.1", proxies=nobody) == "127.0.0.1"
    assert not nobody.trusts("127.0.0.1")
    assert PROXIES.trusts("10.0.0.1")


def test_number_of_hops_is_bounded() -> None:
    """A chain of trusted addresses is followed for a bounded number of hops."""
    hops = ", ".join(f"10.0.{number}.1" for number in range(200))

    assert client("10.1.2.3", hops) == f"10.0.{200 - MAX_HOPS}.1"

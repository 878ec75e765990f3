"""
The address of a client behind proxies.

A proxy appends the address of its own client to `x-forwarded-for`, so only the right end of the
header is reliable, and only if the connection comes from a proxy that the operator trusts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from gateway.protocols.http.headers import Header

_NAME: Final = b"x-forwarded-for"
MAX_HOPS: Final = 32
"""Most addresses that are read, from the right."""
_MAX_HOP_BYTES: Final = 64
"""An IPv6 address in brackets with a port has 53."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """
    Proxies whose `x-forwarded-for` is trusted.

    Args:
        networks: Addresses and networks of the proxies.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))

    def trusts(self, peer: str) -> bool:
        """Return whether a connection comes from one of the proxies."""
        if not self._networks:
            return False
        address = _parsed(peer)
        return address is not None and self._contains(address)

    def client(self, peer: str, headers: Iterable[Header]) -> str:
        """
        Return the address of the client: the rightmost one that is not a trusted proxy's.

        If all are trusted, it is the leftmost; an unreadable entry ends the search at the proxy
        that sent it.

        Args:
            peer: Address of the connection; empty for a UNIX socket.
            headers: Of the request, with names in lower case.
        """
        if not self._networks:
            return peer
        found = _parsed(peer)
        if found is None:
            return peer
        hops = b",".join([value for name, value in headers if name == _NAME])
        for hop in reversed(hops.rsplit(b",", MAX_HOPS)[-MAX_HOPS:] if hops else []):
            if not self._contains(found):
                break
            address = _parsed_hop(hop.strip())
            if address is None:
                break
            found = address
        return str(found)

    def _contains(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _parsed_hop(hop: bytes) -> _Address | None:
    """Return an address as proxies write it, some with a port."""
    if len(hop) > _MAX_HOP_BYTES:
        return None
    text = hop.decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return _parsed(text)


def _parsed(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A listener for both families names an IPv4 peer in this form.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped

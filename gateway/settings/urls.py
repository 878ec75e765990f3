"""Parses and validates the URLs of the configuration."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_-]+)*\.?\Z")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa")
_DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bracketed(host: str) -> str:
    """Return a host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def host_and_port(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"{bracketed(host)}:{port}"


class HttpUrl(NamedTuple):
    """The parts of a base URL."""

    tls: bool
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """Empty, or beginning with a slash; no slash at its end."""

    @property
    def authority(self) -> str:
        """The value of the `host` header, without the scheme's default port."""
        is_default = self.port == (443 if self.tls else 80)
        return bracketed(self.host) if is_default else host_and_port(self.host, self.port)

    @property
    def is_near(self) -> bool:
        """True for loopback, private addresses and names that only a private network resolves."""
        address = _address(self.host)
        if address is not None:
            return address.is_loopback or address.is_private
        return "." not in self.host or self.host.endswith(_PRIVATE_SUFFIXES)


def split_http_url(url: str) -> HttpUrl:
    """
    Return the parts of an absolute http or https URL.

    Raises:
        ValueError: It is not such a URL; it has a user part, a query or a fragment; its host is
            link-local (as cloud metadata is), multicast or unspecified. The message continues a
            sentence that starts with the URL.
    """
    parts = split_url(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("is not an absolute http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user part; configure the credential separately")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("has a query or a fragment; use scheme, host, port and path only")
    if not _PATH.match(parts.path):
        raise ValueError("has a path with characters that a URL must escape")
    host = parts.hostname or ""
    _check_host(host)
    port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise ValueError("has port 0; use 1 to 65535")
    return HttpUrl(parts.scheme == "https", host, port, parts.path.rstrip("/"))


def is_loopback(url: str) -> bool:
    """Return whether an HTTP URL names this machine."""
    try:
        host = split_http_url(url).host
    except ValueError:
        return False
    return is_loopback_host(host)


def is_loopback_host(host: str) -> bool:
    """Return whether a host name or address, an IPv6 address without brackets, is this machine."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; raise ValueError, which continues a sentence about it."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("is not a URL: it has spaces or characters outside ASCII")
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed only when accessed
    except ValueError as failure:
        raise ValueError("is not a URL: its host or port cannot be read") from failure
    return parts


def _check_host(host: str) -> None:
    address = _address(host)
    if address is None:
        if not _HOST_NAME.match(host) or host.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("has no valid host name")
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ValueError("has a link-local, multicast or unspecified address as its host")


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address

"""The transport of one worker: a pool per origin, created at its first request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from gateway.core.model import Origin
from gateway.errors import ErrorKind
from gateway.ports import UpstreamRequest, UpstreamResponse
from gateway.upstream.errors import upstream_failure
from gateway.upstream.httpx2 import Httpx2Origin
from gateway.upstream.pool import OriginPool


class OriginTransport(Protocol):
    """Sends requests to one origin."""

    connect_total: int
    reused_total: int

    @property
    def open_connections(self) -> int:
        """Connections open or being opened."""

    @property
    def idle_connections(self) -> int:
        """Connections ready for a request."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See `ports.Transport.send`."""

    async def aclose(self) -> None:
        """Close every connection."""


class UpstreamTransport:
    """
    Implements `ports.Transport`: selects the pool by the request's origin.

    It belongs to the event loop on which it is first used.

    Args:
        make_ssl_context: Creates the contexts of TLS origins: one for all HTTP/1.1 pools, created
            at once, since it reads files; another at the first use of httpx2, which sets its own
            ALPN protocols.
    """

    def __init__(self, *, make_ssl_context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._make_ssl_context = make_ssl_context or client_ssl_context
        self._ssl_context = self._make_ssl_context()
        self._httpx2_ssl_context: ssl.SSLContext | None = None
        self._origins: dict[Origin, OriginTransport] = {}
        self._closed = False

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send and wait for the response head; see `ports.Transport.send`."""
        transport = self._origins.get(request.origin)
        if transport is None:
            transport = self._open(request.origin)
        return await transport.send(request)

    async def aclose(self) -> None:
        """Close every connection. Idempotent; a later `send` raises OVERLOADED."""
        self._closed = True
        for transport in tuple(self._origins.values()):
            await transport.aclose()

    @property
    def open_connections(self) -> int:
        """Connections open or being opened, idle ones included."""
        return sum(transport.open_connections for transport in self._origins.values())

    @property
    def idle_connections(self) -> int:
        """Connections ready for a request."""
        return sum(transport.idle_connections for transport in self._origins.values())

    @property
    def connect_total(self) -> int:
        """Connection attempts so far."""
        return sum(transport.connect_total for transport in self._origins.values())

    @property
    def reused_total(self) -> int:
        """Requests sent so far on a reused connection."""
        return sum(transport.reused_total for transport in self._origins.values())

    def _open(self, origin: Origin) -> OriginTransport:
        if self._closed:
            raise upstream_failure(ErrorKind.OVERLOADED, origin, "transport closed")
        transport: OriginTransport
        if origin.transport == "httpx2" or origin.proxy is not None:
            if self._httpx2_ssl_context is None:
                self._httpx2_ssl_context = self._make_ssl_context()
            transport = Httpx2Origin(origin, self._httpx2_ssl_context)
        else:
            transport = OriginPool(asyncio.get_running_loop(), origin, self._ssl_context)
        self._origins[origin] = transport
        return transport


def client_ssl_context() -> ssl.SSLContext:
    """
    Return a context that verifies certificates and host names and offers HTTP/1.1 only.

    Reading the system's certificate authorities takes tens of milliseconds.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context

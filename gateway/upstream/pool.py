"""
The connections to one origin: reuse, limits, expiry, and the one retry that is safe.

An idle connection that an upstream closes can be taken in the moment before we hear of it. So a
request that went out on a REUSED connection which then ended without a single byte of an answer is
sent once more, on a fresh connection (RFC 9112 9.3.1 describes the race). Nothing else is repeated
here: every other repetition is the caller's decision.
"""

from __future__ import annotations

import asyncio
import ssl

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import UpstreamRequest
from gateway.upstream.errors import upstream_failure
from gateway.upstream.http1.connection import Http1Connection
from gateway.upstream.http1.response import Http1Response

_HINT_MARGIN = 0.8
"""Of the idle time an upstream promises: beyond it the race above becomes likely."""


class OriginPool:
    """
    Keep-alive connections to one origin, the one used last reused first.

    Taking and giving back are O(1); one timer for all drops what stayed idle for
    `origin.keepalive_s`, or less when the upstream announced less.
    """

    __slots__ = (
        "_closed", "_connections", "_idle", "_loop", "_origin", "_ssl_context", "_sweep_timer",
        "connect_total", "reused_total",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, ssl_context: ssl.SSLContext
    ) -> None:
        self._loop = loop
        self._origin = origin
        self._ssl_context = ssl_context
        self._connections: set[Http1Connection] = set()
        self._idle: dict[Http1Connection, None] = {}
        """In the order of their release; a dict for O(1) removal from the middle."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.connect_total = 0
        """Connections tried, successful or not."""
        self.reused_total = 0
        """Requests that went out on a connection used before."""

    @property
    def open_connections(self) -> int:
        """Idle, busy and connecting ones."""
        return len(self._connections)

    @property
    def idle_connections(self) -> int:
        """Those ready to be taken."""
        return len(self._idle)

    async def send(self, request: UpstreamRequest) -> Http1Response:
        """Send over a kept or a new connection; see `ports.Transport.send`."""
        timeout_s = request.head_timeout_s
        kept = self._take_idle()
        if kept is not None:
            self.reused_total += 1
            started = self._loop.time()
            try:
                return await kept.exchange(request, timeout_s)
            except GatewayError:
                if not kept.closed_before_response:
                    raise
            timeout_s = max(timeout_s - (self._loop.time() - started), 0.0)
        connection = await self._connect(request.clocks.connect_s)
        return await connection.exchange(request, timeout_s)

    async def aclose(self) -> None:
        """Drop every connection; unfinished answers break off. Further sends are OVERLOADED."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connection in tuple(self._connections):
            connection.abort("the gateway closes its connections")

    def released(self, connection: Http1Connection) -> None:
        """Keep a connection for the next request."""
        idle_s = self._origin.keepalive_s
        if connection.idle_hint_s is not None:
            idle_s = min(idle_s, connection.idle_hint_s * _HINT_MARGIN)
        if self._closed or idle_s <= 0:
            connection.drop()
            return
        connection.idle_until = self._loop.time() + idle_s
        self._idle[connection] = None
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_at(connection.idle_until, self._sweep)

    def lost(self, connection: Http1Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    def _take_idle(self) -> Http1Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.idle_until > self._loop.time():
                return connection
            connection.drop()
        return None

    def _sweep(self) -> None:
        """Drop what has been idle too long, and come again when the next one is due."""
        self._sweep_timer = None
        now = self._loop.time()
        for connection in [kept for kept in self._idle if kept.idle_until <= now]:
            connection.drop()
        if self._idle:
            due = min(kept.idle_until for kept in self._idle)
            self._sweep_timer = self._loop.call_at(due, self._sweep)

    async def _connect(self, timeout_s: float) -> Http1Connection:
        origin = self._origin
        if self._closed or len(self._connections) >= origin.max_connections:
            what = "pool closed" if self._closed else f"{origin.max_connections} connections open"
            raise upstream_failure(ErrorKind.OVERLOADED, origin, what)
        connection = Http1Connection(self._loop, origin, self)
        self._connections.add(connection)
        self.connect_total += 1
        connected = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.create_connection(
                    lambda: connection,
                    origin.host,
                    origin.port,
                    ssl=self._ssl_context if origin.tls else None,
                )
            connected = True
        except (OSError, UnicodeError) as error:
            # OSError covers time-outs, DNS and TLS failures; UnicodeError a host that is no name.
            raise upstream_failure(
                ErrorKind.UPSTREAM_CONNECT, origin, "not connected", error
            ) from error
        finally:
            if not connected:
                connection.drop()
        return connection

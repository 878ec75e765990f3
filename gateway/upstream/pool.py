"""
The connections to one origin: reuse, limits, expiry, and the one retry that is safe.

An upstream may close an idle connection just as the pool reuses it. A request on a
REUSED connection that closes before any byte of a response is therefore sent once more, on a new
connection (RFC 9112 9.3.1 describes the race). All other retries are decided by the pipeline.
"""

from __future__ import annotations

import asyncio
import ssl

from gateway.core.model import Origin
from gateway.deadlines import Deadlines
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import UpstreamRequest
from gateway.timeouts import within
from gateway.upstream.errors import upstream_failure
from gateway.upstream.http1.connection import Http1Connection
from gateway.upstream.http1.response import Http1Response

# A connection is kept for this share of the idle time that its upstream announced; later, the race
# above becomes likely.
_HINT_MARGIN = 0.8


class OriginPool:
    """
    Keep-alive connections to one origin; the most recently used one is reused first.

    Taking and releasing are O(1). One timer drops connections that were idle for
    `origin.keepalive_s`, or for less if the upstream announced less.
    """

    __slots__ = (
        "_closed", "_connections", "_idle", "_loop", "_origin", "_ssl_context", "_sweep_timer",
        "_timers",
        "connect_total", "reused_total",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, ssl_context: ssl.SSLContext
    ) -> None:
        self._loop = loop
        self._origin = origin
        self._ssl_context = ssl_context
        self._timers = Deadlines()
        self._connections: set[Http1Connection] = set()
        # In the order of release; a dict for O(1) removal from the middle.
        self._idle: dict[Http1Connection, None] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.connect_total = 0
        """Connection attempts, successful or not."""
        self.reused_total = 0
        """Requests sent on a reused connection."""

    @property
    def open_connections(self) -> int:
        """Connections that are idle, busy or being opened."""
        return len(self._connections)

    @property
    def idle_connections(self) -> int:
        """Connections ready for a request."""
        return len(self._idle)

    async def send(self, request: UpstreamRequest) -> Http1Response:
        """Send over an idle or a new connection; see `ports.Transport.send`."""
        timeout_s = request.head_timeout_s
        reused = self._take_idle()
        if reused is not None:
            self.reused_total += 1
            started = self._loop.time()
            try:
                return await reused.exchange(request, timeout_s)
            except GatewayError:
                if not reused.closed_before_response:
                    raise
            timeout_s = max(timeout_s - (self._loop.time() - started), 0.0)
        connection = await self._connect(request.clocks.connect_s)
        return await connection.exchange(request, timeout_s)

    async def aclose(self) -> None:
        """Drop every connection and abort its response. Later sends raise OVERLOADED."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connection in tuple(self._connections):
            connection.abort("the gateway is closing its connections")

    def released(self, connection: Http1Connection) -> None:
        """Keep a connection that can serve another request."""
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
        """Remove a closed connection."""
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
        """Drop expired connections, and reschedule for the next one."""
        self._sweep_timer = None
        now = self._loop.time()
        for connection in [idle for idle in self._idle if idle.idle_until <= now]:
            connection.drop()
        if self._idle:
            due = min(idle.idle_until for idle in self._idle)
            self._sweep_timer = self._loop.call_at(due, self._sweep)

    async def _connect(self, timeout_s: float) -> Http1Connection:
        origin = self._origin
        if self._closed or len(self._connections) >= origin.max_connections:
            what = "pool closed" if self._closed else f"{origin.max_connections} connections open"
            raise upstream_failure(ErrorKind.OVERLOADED, origin, what)
        connection = Http1Connection(self._loop, origin, self, self._timers)
        self._connections.add(connection)
        self.connect_total += 1
        connected = False
        try:
            opening = self._loop.create_connection(
                lambda: connection,
                origin.host,
                origin.port,
                ssl=self._ssl_context if origin.tls else None,
            )
            await within(timeout_s, opening)
            connected = True
        except (OSError, UnicodeError) as error:
            # OSError includes timeouts, DNS and TLS failures; UnicodeError is an invalid host name.
            raise upstream_failure(
                ErrorKind.UPSTREAM_CONNECT, origin, "connecting failed", error
            ) from error
        finally:
            if not connected:
                connection.drop()
        return connection

"""
Accepts the connections of the direct port and closes those that have let their time run out.

At `max_connections`, and while no file is free, connections wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from email.utils import formatdate
from time import monotonic

from gateway.direct_port.connection import App, Connection, Limits

logger = logging.getLogger(__name__)

SWEEP_S = 0.5
"""How often connections are looked through; times are exceeded by up to twice of it."""
_ACCEPTS = 64
"""Most connections that are accepted before the loop goes on to others."""
_RETRY_S = 1.0
_POLL_S = 0.05


class DirectServer:
    """
    The direct port of one worker.

    Args:
        app: The ASGI application.
        listener: A listening socket, which is closed by `stop_accepting`.
        limits: Times.
        max_connections: Beyond it no connection is accepted.
    """

    def __init__(
        self, app: App, listener: socket.socket, limits: Limits, max_connections: int
    ) -> None:
        self.app = app
        self.limits = limits
        self.now = 0.0
        """Seconds in which the event loop ran: a blocked loop lets no client's time run out."""
        self.date = b""
        """The line of the header `date`."""
        self.finishing = False
        """Whether each connection is to close after its response."""
        self._listener: socket.socket | None = listener
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = False
        self._swept_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def start(self) -> None:
        """Accept connections on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._swept_at = monotonic()
        assert self._listener is not None
        self._listener.setblocking(False)
        self._sweep(self._loop)
        self._resume()

    def stop_accepting(self) -> None:
        """Close the listening socket in this process. Idempotent."""
        self._pause()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def finish(self) -> None:
        """Accept nothing more, let running requests end, and close all connections."""
        self.stop_accepting()
        self.finishing = True
        for connection in tuple(self._connections):
            connection.finish()
        while self._connections:  # noqa: ASYNC110 # no hurry: the process ends after it
            await asyncio.sleep(_POLL_S)

    def stop(self) -> None:
        """End the clock; call it last."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def abort(self) -> None:
        """Close all connections at once."""
        for connection in tuple(self._connections):
            connection.abort()

    def keep(self, task: asyncio.Task[None]) -> None:
        """Refer to a task until it has ended."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self, connection: Connection) -> None:
        """Forget a connection, which makes room for another one."""
        self._connections.discard(connection)
        self._resume()

    def _accept(self) -> None:
        """Accept what waits; called by the event loop."""
        loop, listener = self._loop, self._listener
        assert loop is not None
        for _ in range(_ACCEPTS):
            if listener is None or len(self._connections) >= self._max_connections:
                self._pause()
                return
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as failure:
                if failure.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                logger.warning("direct_accept_failed", extra={"reason": str(failure)})
                self._pause()
                loop.call_later(_RETRY_S, self._resume)
                return
            accepted.setblocking(False)
            connection = Connection(loop, self)
            self._connections.add(connection)
            self.keep(loop.create_task(self._open(connection, accepted)))

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        assert self._loop is not None
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # it has ended meanwhile
            accepted.close()
            self.lost(connection)

    def _pause(self) -> None:
        if self._accepting and self._loop is not None and self._listener is not None:
            self._accepting = False
            self._loop.remove_reader(self._listener)

    def _resume(self) -> None:
        if not self._accepting and self._loop is not None and self._listener is not None:
            self._accepting = True
            self._loop.add_reader(self._listener, self._accept)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Advance the clock, and close the connections that are due."""
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)
        now = monotonic()
        self.now += min(now - self._swept_at, 2 * SWEEP_S)
        self._swept_at = now
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        # When `due` was computed, `now` may have been a sweep old; nothing is closed early.
        for connection in [each for each in self._connections if each.due + SWEEP_S <= self.now]:
            connection.expire()

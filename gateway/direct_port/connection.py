"""
One HTTP/1.1 connection of a client: an asyncio protocol that serves one request at a time.

Phases: HEAD (a request is awaited) -> EXCHANGE (a request is served, its body may still arrive) ->
HEAD, or LINGER -> CLOSED.

Rules of this file:

- Every buffer is bounded: a head by `MAX_HEAD_BYTES`; requests that a client sends ahead, and a
  body that nobody reads, by one network read beyond `BODY_BACKLOG_BYTES`; what the client does not
  read by one chunk beyond the transport's high-water mark. Reading, or the application, pauses.
- The next request is looked at when the response is complete and the client has read enough of it.
- A connection whose request was not read to its end is not used again. It lingers: what still
  arrives is discarded for a while, because closing at once would reset the connection, and the
  client might lose the response.
- A client is gone when the connection ends in either direction.
- A client that reads nothing of what is left of a response is given up within twice `send_stall_s`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, cast

from typing_extensions import override

from gateway.direct_port.chunks import MalformedChunksError
from gateway.direct_port.exchange import BODY_BACKLOG_BYTES, Exchange, Message
from gateway.direct_port.head import (
    MAX_HEAD_BYTES,
    BadRequestError,
    RequestHead,
    head_too_large,
    read_head,
)
from gateway.direct_port.response import plain_response

logger = logging.getLogger(__name__)

App = Callable[[dict[str, Any], Callable[[], Any], Callable[[Message], Any]], Awaitable[None]]

LINGER_S: Final = 2.0
LINGER_BYTES: Final = 4 * 1024 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_NEVER: Final = float("inf")


class Limits(Protocol):
    """Times in seconds."""

    @property
    def header_timeout_s(self) -> float:
        """For the first head of a connection."""

    @property
    def idle_timeout_s(self) -> float:
        """From a response to the end of the next head."""

    @property
    def send_stall_s(self) -> float:
        """For a client that does not read what is left of a response."""


class Owner(Protocol):
    """The server that accepted the connection."""

    app: App
    limits: Limits
    now: float
    """Seconds in which the event loop ran: a blocked loop lets no client's time run out."""
    date: bytes
    """The line of the header `date`."""
    finishing: bool
    """Whether each connection is to close after its response."""

    def keep(self, task: asyncio.Task[None]) -> None:
        """Refer to a task until it has ended: an event loop does not."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection. Called once."""


class Phase(enum.Enum):
    """The phase of a connection."""

    HEAD = enum.auto()
    EXCHANGE = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


class Connection(asyncio.Protocol):
    """
    The connection of one client.

    Args:
        loop: The worker's.
        owner: The server.
    """

    __slots__ = (
        "_ahead",
        "_client",
        "_drained",
        "_exchange",
        "_lingered",
        "_loop",
        "_owner",
        "_paused",
        "_reading",
        "_transport",
        "_unsent",
        "call_soon",
        "due",
        "phase",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self.call_soon: Callable[[Callable[[], None]], object] = loop.call_soon
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._client: tuple[str, int] | None = None
        self._exchange: Exchange | None = None
        self._ahead = b""  # an incomplete head, or what was sent before the response ended
        self._reading = True
        self._paused = False
        self._drained: Future[None] | None = None
        self._lingered = 0
        self._unsent = 0  # what `expire` last found in the transport's buffer
        self.phase = Phase.HEAD
        self.due = owner.now + owner.limits.header_timeout_s
        """When, on the owner's clock, the connection is to be closed by `expire`."""

    # Callbacks of the event loop.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without the base class.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client = (peer[0], peer[1]) if peer else None
        if self.phase is Phase.CLOSED:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase is Phase.HEAD:
            self._receive_head(data)
        elif phase is Phase.EXCHANGE:
            self._receive_in_exchange(data)
        elif phase is Phase.LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.abort()

    @override
    def eof_received(self) -> bool | None:
        self._left()
        return None  # what is written is still flushed

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        self._transport = None
        self._owner.lost(self)

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._release()
        if self.phase is Phase.HEAD:
            self._await_head()

    # Called by the owner.

    def expire(self) -> None:
        """Close, unless the client still reads what was sent to it; called when `due`."""
        transport = self._transport
        unsent = 0 if transport is None else transport.get_write_buffer_size()
        if unsent and unsent != self._unsent and self.phase is not Phase.LINGER:
            self._unsent = unsent
            self.due = self._owner.now + self._owner.limits.send_stall_s
        elif self.phase is Phase.HEAD and not unsent:
            self.close()
        else:
            self.abort()

    def finish(self) -> None:
        """Close, after the response that is being served."""
        if self.phase is Phase.HEAD:
            self.close()

    def abort(self) -> None:
        """Close at once. Idempotent."""
        self._left()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close when everything was sent. Idempotent."""
        self._left()
        if self._transport is not None:
            self._transport.close()

    # Requests.

    def _receive_head(self, data: bytes) -> None:
        """Begin an exchange if the head is complete; otherwise keep what there is of it."""
        ahead = self._ahead
        start = 0
        if ahead:
            start = max(0, len(ahead) - 3)
            data = ahead + data
        elif data[:2] == b"\r\n":
            data = data.lstrip(b"\r\n")  # RFC 9112 2.2: empty lines before a request
        if self._paused:
            # The client has not read the last response: no other one is begun meanwhile.
            self._keep_ahead(data)
            return
        found = data.find(_HEAD_END, start, MAX_HEAD_BYTES)
        if found < 0:
            self._ahead = data
            if len(data) >= MAX_HEAD_BYTES:
                self._refuse(head_too_large())
            return
        end = found + 4
        self._ahead = b""
        try:
            head = read_head(data[:end])
        except BadRequestError as error:
            self._refuse(error)
            return
        self._begin(head, data[end:])

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        self.phase = Phase.EXCHANGE
        self.due = _NEVER
        self._exchange = exchange = Exchange(self, head)
        if rest:
            self._receive_in_exchange(rest)
        path = head.path.decode("latin-1")
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": head.version,
            "method": head.method,
            "scheme": "http",
            "path": path,
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": self._client,
            "server": None,
        }
        self._owner.keep(self._loop.create_task(self._serve(exchange, scope)))

    async def _serve(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        """Run the application; without the end of a response, the client sees that it broke."""
        try:
            await self._owner.app(scope, exchange.receive, exchange.send)
        except Exception:  # the root of a task
            logger.exception("direct_request_failed")
        if exchange is self._exchange:
            self.abort() if self._paused else self.close()

    def _receive_in_exchange(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.stopped:
            return
        if not exchange.body_ended:
            try:
                data = exchange.body_received(data)
            except MalformedChunksError:
                exchange.stop()
                self._pause_reading()
                return
            if exchange.backlog_bytes > BODY_BACKLOG_BYTES:
                self._pause_reading()
        if data:
            self._keep_ahead(data)

    def _keep_ahead(self, data: bytes) -> None:
        self._ahead = self._ahead + data if self.phase is Phase.EXCHANGE else data
        if len(self._ahead) > BODY_BACKLOG_BYTES:
            self._pause_reading()

    def _refuse(self, error: BadRequestError) -> None:
        """Respond that no request could be read, and close."""
        self.write(plain_response(error.status, str(error), self._owner.date))
        self._linger()

    # Called by the exchange.

    def write(self, data: bytes) -> None:
        """Write; bytes for a client that has left are dropped."""
        if self._transport is not None and self.phase is not Phase.CLOSED:
            self._transport.write(data)

    def drained(self) -> Future[None] | None:
        """Return what is done when the client has read enough, or has left; None if it has."""
        if not self._paused:
            return None
        if self._drained is None or self._drained.done():  # who waited may have been cancelled
            self._drained = self._loop.create_future()
        return self._drained

    def new_future(self) -> Future[Message]:
        """Return a future of the connection's loop."""
        return self._loop.create_future()

    def date(self) -> bytes:
        """Return the line of the header `date`."""
        return self._owner.date

    def serves_more(self) -> bool:
        """Return whether the connection may serve another request."""
        return not self._owner.finishing

    def body_taken(self) -> None:
        """Read on, if reading was paused because the body was not taken."""
        if len(self._ahead) <= BODY_BACKLOG_BYTES:
            self._resume_reading()

    def response_ended(self, *, keep_alive: bool) -> None:
        """Go on to the next request, or close the connection."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        if not exchange.body_ended:
            self._linger()
        elif not keep_alive or self._owner.finishing:
            self.close()
        else:
            self.phase = Phase.HEAD
            self._await_head()

    # What is left.

    def _await_head(self) -> None:
        limits = self._owner.limits
        if self._paused:
            self.due = self._owner.now + limits.send_stall_s
            return
        self.due = self._owner.now + limits.idle_timeout_s
        self._resume_reading()
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._receive_head(ahead)

    def _linger(self) -> None:
        """End the response; discard for a while what the client still sends, then close."""
        self._ahead = b""
        transport = self._transport
        if transport is None or self.phase is Phase.CLOSED:
            return
        self.phase = Phase.LINGER
        self.due = self._owner.now + LINGER_S
        self._resume_reading()
        transport.write_eof()

    def _left(self) -> None:
        """End the exchange, if any: nothing more is received."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.due = self._owner.now + self._owner.limits.send_stall_s
        self._ahead = b""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()
        self._release()

    def _release(self) -> None:
        """Let the application write on."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and self.phase is not Phase.CLOSED:
            self._reading = True
            self._transport.resume_reading()

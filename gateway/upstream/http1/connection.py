"""
One HTTP/1.1 connection to an upstream: an asyncio protocol that serves one request at a time.

Phases: IDLE -> HEAD (sending the request, waiting for the response head) -> LENGTH | CHUNKED |
UNTIL_CLOSE (receiving the body) -> IDLE or GONE. GONE is final and entered only in `drop`, which
notifies the owner once.

Rules of this file:

- Each network read is handled inside `data_received`, with no task and no queue: the body bytes of
  one read are passed to `deliver` as one chunk.
- A complete message releases the connection before the last bytes are delivered, so that the sink
  cannot affect the next exchange.
- A connection is reused only if it was read to the exact end of a body, the request was fully sent,
  and the upstream did not send `close`. Otherwise it is dropped.
- Dropping aborts the transport: the upstream notices at once, and buffered data is not sent.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final, Protocol, cast

from typing_extensions import override

from gateway.core.model import Origin
from gateway.deadlines import Timers
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import UpstreamRequest
from gateway.upstream.errors import upstream_failure
from gateway.upstream.http1.body_plan import Framing
from gateway.upstream.http1.head import (
    HEAD_LIMIT_BYTES,
    HeadReader,
    MalformedChunksError,
    MalformedHeadError,
    request_head,
)
from gateway.upstream.http1.response import Http1Response

ONE_WRITE_BYTES: Final = 64 * 1024
"""Smaller requests are copied into one write; larger bodies are written in slices."""

SLICE_BYTES: Final = 256 * 1024
"""Bytes written at a time; the next slice waits until the socket has accepted this one."""


class Phase(enum.Enum):
    """The phase of a connection's exchange."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    GONE = enum.auto()


_BODY_PHASE: Final = {
    Framing.LENGTH: Phase.LENGTH,
    Framing.CHUNKED: Phase.CHUNKED,
    Framing.UNTIL_CLOSE: Phase.UNTIL_CLOSE,
}
_CHUNKED: Final = Phase.CHUNKED


class ConnectionOwner(Protocol):
    """The pool that opened the connection."""

    def released(self, connection: Http1Connection) -> None:
        """Keep a connection that can serve another request."""

    def lost(self, connection: Http1Connection) -> None:
        """Remove a closed connection. Called once per connection, in any phase."""


class Http1Connection(asyncio.Protocol):
    """One connection: `exchange` sends a request, `drop` closes it."""

    __slots__ = (
        "_head",
        "_keep_alive",
        "_loop",
        "_origin",
        "_owner",
        "_phase",
        "_reading",
        "_remaining",
        "_response",
        "_timers",
        "_transport",
        "_unsent",
        "_waiter",
        "_write_paused",
        "closed_before_response",
        "deliver",
        "idle_hint_s",
        "idle_until",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        owner: ConnectionOwner,
        timers: Timers | None = None,
    ) -> None:
        self._loop = loop
        self._timers: Timers = timers or loop
        self._origin = origin
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._phase = Phase.IDLE
        self._head: HeadReader | None = None
        self._response: Http1Response | None = None
        self._waiter: asyncio.Future[Http1Response | GatewayError] | None = None
        self._keep_alive = False
        self._reading = True
        self._remaining = 0
        self._unsent: memoryview | None = None
        self._write_paused = False
        self.deliver: Callable[[bytes], None] = _discard
        self.closed_before_response = False
        """The peer closed the connection before any byte of the last exchange's response."""
        self.idle_hint_s: float | None = None
        """The idle time that the upstream announced for this connection."""
        self.idle_until = 0.0
        """Set by the pool: the loop time at which an idle connection expires."""

    async def exchange(self, request: UpstreamRequest, timeout_s: float) -> Http1Response:
        """
        Send the request and return the response after its head.

        Cancelling drops the connection.

        Args:
            request: Sent unchanged, with content-length added.
            timeout_s: Time until the response head.

        Raises:
            GatewayError: UPSTREAM_TIMEOUT, UPSTREAM_BROKEN (see `closed_before_response`),
                UPSTREAM_MALFORMED, UPSTREAM_CONNECT (closed before anything was sent), INTERNAL
                (an invalid request head).
        """
        waiter: asyncio.Future[Http1Response | GatewayError] = self._loop.create_future()
        self._waiter = waiter
        self._begin(request)
        timer = self._timers.call_later(timeout_s, self._head_overdue)
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            timer.cancel()
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    def drop(self) -> None:
        """Close the socket at once and notify the owner. Idempotent."""
        if self._phase is Phase.GONE:
            return
        self._phase = Phase.GONE
        self._clear()
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.lost(self)

    def abort(self, what: str) -> None:
        """Drop the connection; its exchange fails with UPSTREAM_BROKEN."""
        self._fail(ErrorKind.UPSTREAM_BROKEN, what)

    def pause_reading(self) -> None:
        """Stop reading the socket. Idempotent."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading. Idempotent; delivers nothing before it returns."""
        if not self._reading and self._transport is not None and self._phase is not Phase.GONE:
            self._reading = True
            self._transport.resume_reading()

    # Callbacks of the event loop.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without the base class.
        self._transport = cast("asyncio.Transport", transport)
        if self._phase is Phase.GONE:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase is _CHUNKED:
            self._receive_chunked(data)
        elif phase is Phase.HEAD:
            self._receive_head(data)
        elif phase is Phase.LENGTH:
            self._receive_length(data)
        elif phase is Phase.UNTIL_CLOSE:
            self.deliver(data)
        else:
            self.drop()

    @override
    def eof_received(self) -> bool | None:
        self._on_close(None)
        return None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._on_close(exc)

    @override
    def pause_writing(self) -> None:
        self._write_paused = True

    @override
    def resume_writing(self) -> None:
        self._write_paused = False
        self._pump()

    # The request.

    def _begin(self, request: UpstreamRequest) -> None:
        body = request.body
        try:
            head = request_head(request)
        except ValueError as error:
            self.drop()
            what = "invalid request head"
            raise upstream_failure(ErrorKind.INTERNAL, self._origin, what, error) from error
        self.closed_before_response = False
        transport = self._transport
        if transport is None or transport.is_closing() or self._phase is not Phase.IDLE:
            self._fail(ErrorKind.UPSTREAM_CONNECT, "closed before the request was sent")
            return
        self._phase = Phase.HEAD
        self._head = HeadReader(request.method)
        if len(body) <= ONE_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            self._unsent = memoryview(body)
            self._pump()

    def _pump(self) -> None:
        """Write slices of the body while the socket accepts them, without copying."""
        transport = self._transport
        while self._unsent is not None and transport is not None and not self._write_paused:
            if transport.is_closing():
                # A write failed; `connection_lost` is on its way.
                self._unsent = None
                return
            piece, rest = self._unsent[:SLICE_BYTES], self._unsent[SLICE_BYTES:]
            self._unsent = rest if len(rest) else None
            transport.write(piece)

    def _fully_sent(self) -> bool:
        transport = self._transport
        return (
            self._unsent is None
            and transport is not None
            and transport.get_write_buffer_size() == 0
            and not transport.is_closing()
        )

    # The response.

    def _receive_head(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        try:
            rest = head.feed(data)
        except MalformedHeadError as error:
            self._fail(ErrorKind.UPSTREAM_MALFORMED, f"response head: {error}", error)
            return
        if rest is None:
            return
        plan = head.plan
        response = Http1Response(self._loop, self, self._origin, head.status, head.headers)
        self._response = response
        self._keep_alive = plan.keep_alive
        self.idle_hint_s = plan.idle_hint_s
        self.deliver = response.buffer
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)
        self._waiter = None
        if head.status >= 400 and not self._fully_sent():
            # The upstream does not need the rest of the body: stop sending it (RFC 9112 9.5).
            self._unsent = None
            self._keep_alive = False
        if plan.framing is Framing.NONE:
            self._complete(b"", surplus=bool(rest))
            return
        self._phase = _BODY_PHASE[plan.framing]
        self._remaining = plan.length
        if rest:
            self.data_received(rest)

    def _receive_chunked(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        try:
            chunk = head.decode_chunked(data)
        except MalformedChunksError as error:
            if error.chunk:
                self.deliver(error.chunk)
            self._fail(ErrorKind.UPSTREAM_BROKEN, f"chunked body: {error}", error)
            return
        if head.body_ended:
            self._complete(chunk, surplus=head.surplus)
        elif chunk:
            head.overhead_bytes = 0
            self.deliver(chunk)
        else:
            head.overhead_bytes += len(data)
            if head.overhead_bytes > HEAD_LIMIT_BYTES:
                self._fail(ErrorKind.UPSTREAM_BROKEN, "chunk extensions or trailers too large")

    def _receive_length(self, data: bytes) -> None:
        remaining = self._remaining
        size = len(data)
        if size < remaining:
            self._remaining = remaining - size
            self.deliver(data)
        else:
            last = data if size == remaining else data[:remaining]
            self._complete(last, surplus=size > remaining)

    def _complete(self, last: bytes, *, surplus: bool) -> None:
        """End the exchange: release or drop the connection, then deliver the last bytes."""
        response = self._response
        reusable = self._keep_alive and not surplus and self._fully_sent()
        if reusable:
            self._clear()
            self._phase = Phase.IDLE
            self.resume_reading()
            self._owner.released(self)
        else:
            self.drop()
        if response is not None:
            response.finish(last)

    # Closing.

    def _on_close(self, error: Exception | None) -> None:
        """Complete or fail the exchange in progress, and drop the connection."""
        phase = self._phase
        if phase is Phase.UNTIL_CLOSE and error is None:
            self._complete(b"", surplus=False)
        elif phase is Phase.HEAD:
            head = self._head
            self.closed_before_response = head is None or not head.begun
            self._fail(ErrorKind.UPSTREAM_BROKEN, "closed before the response head", error)
        elif phase is not Phase.GONE:
            self._fail(ErrorKind.UPSTREAM_BROKEN, "closed inside the body", error)

    def _head_overdue(self) -> None:
        if self._phase is Phase.HEAD:
            self._fail(ErrorKind.UPSTREAM_TIMEOUT, "no response head in time")

    def _abandon(self, waiter: asyncio.Future[Http1Response | GatewayError]) -> None:
        """Close the response that a cancelled `exchange` would have returned."""
        if waiter.cancelled() or not waiter.done():
            self.drop()
            return
        outcome = waiter.result()
        if isinstance(outcome, Http1Response):
            outcome.close()

    def _fail(self, kind: ErrorKind, what: str, cause: Exception | None = None) -> None:
        waiter, response = self._waiter, self._response
        self.drop()
        error = upstream_failure(kind, self._origin, what, cause)
        if response is not None:
            response.fail(error)
        elif waiter is not None and not waiter.done():
            waiter.set_result(error)

    def _clear(self) -> None:
        """Reset the exchange, and break the parser's reference cycle."""
        if self._head is not None:
            self._head.detach()
        self._head = None
        self._response = None
        self._waiter = None
        self.deliver = _discard


def _discard(chunk: bytes) -> None:
    """Ignore body bytes: no exchange is running."""

"""
The client's side of one call: the bounded body, the response, and whether the client has left.

Theory. Granian's ASGI `send` returns an awaitable that is usually finished already, since its
channel to the socket holds four chunks. Stepping this awaitable once by hand, instead of awaiting
it in a task, makes a relayed chunk cheap: no task switch unless the client is slow. A `send` to a
client that left does not raise; a pending `receive` returns `http.disconnect` instead.

Rules.
1. One `write` at a time. `try_write` returns None when the bytes are on their way, else an
   awaitable that must finish before the next write.
2. After `start` the response either gets `end` or is abandoned: returning from the ASGI application
   without `end` breaks the connection, so that no client takes a partial response for a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

from gateway.core.idempotency import ResponseRecorder, StoredResponse
from gateway.deadlines import Cancellable, Timers
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.intake import SMALL_BODY_BYTES, IntakePlace
from gateway.pipeline.client.stepped import Stepped
from gateway.ports import Headers
from gateway.protocols.codec.digits import read_digits
from gateway.timeouts import within

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_DRAIN_BYTES = 1024 * 1024
_DRAIN_S = 2.0
_ARRIVED_BYTES = 4096
"""A body up to this size has arrived with its head, in the server's buffer of 8 KiB."""
_MOST_DRAINS = 256
"""Most requests of one worker whose unused body is discarded at the same time."""
_CHECK_S = 1.0
"""How often a body that is still arriving is checked."""


class ClientChannel:
    """
    Reads one request from a client and writes one response.

    Args:
        scope: The ASGI scope.
        receive, send: The ASGI callables.
    """

    __slots__ = (
        "_broke_off",
        "_copy",
        "_first",
        "_gone",
        "_on_gone",
        "_overdue",
        "_read_whole",
        "_receive",
        "_received_bytes",
        "_send",
        "_timer",
        "ended",
        "opened",
        "scope",
        "started",
    )

    closing: ClassVar[bool] = False
    """The worker drains: each response closes its connection."""
    _draining: ClassVar[int] = 0

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.started = False
        self.ended = False
        # The head was sent before the response was known, see `open`.
        self.opened = False
        self._receive = receive
        self._send = send
        self._gone = False
        self._broke_off = False
        self._read_whole = False
        self._received_bytes = 0
        self._overdue: GatewayError | None = None
        self._timer: Cancellable | None = None
        self._on_gone: Callable[[], object] | None = None
        self._copy: ResponseRecorder | None = None
        # By name, the first value of each header: a dozen of them are looked up.
        self._first: dict[bytes, bytes] = dict(reversed(scope["headers"]))

    @property
    def headers(self) -> Headers:
        """The request's headers, names in lower case."""
        headers: Headers = self.scope["headers"]
        return headers

    @property
    def gone(self) -> bool:
        """Whether the client is known to have left."""
        return self._gone

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Return whether the request has one of these headers."""
        return not self._first.keys().isdisjoint(names)

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header."""
        return self._first.get(name)

    async def read_body(
        self,
        limit_bytes: int,
        timeout_s: float,
        task: asyncio.Task[Any],
        place: IntakePlace | None = None,
    ) -> bytes:
        """
        Return the whole request body.

        Args:
            limit_bytes: Largest body.
            timeout_s: For the whole body.
            task: The running task; a timer on it costs a third of `asyncio.timeout`.
            place: Counts the bytes and decides when a slow body is refused.

        Raises:
            GatewayError: BODY_TOO_LARGE and those of `place` (by content-length, before any byte is
                read, or by count), BODY_TIMEOUT, BAD_REQUEST (malformed chunks), CLIENT_GONE.
        """
        header = self.header(b"content-length")
        declared = -1
        if header is not None and header.isdigit():
            length = read_digits(header)
            if length is None or length > limit_bytes:
                raise _too_large(limit_bytes)
            declared = length
            if place is not None:
                place.expect(declared)
        first_s = min(_CHECK_S, timeout_s)
        timers: Timers = task.get_loop() if place is None else place.timers
        self._timer = timers.call_later(first_s, self._check_body, task, place, timeout_s, first_s)
        pieces: list[bytes] = []
        try:
            await self._read(pieces, limit_bytes, declared, place)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except asyncio.CancelledError:
            if self._overdue is None:
                raise
            task.uncancel()
        finally:
            self._timer.cancel()
            pieces.clear()  # the traceback of an error keeps the list alive until the response
        raise self._overdue

    def _check_body(
        self,
        task: asyncio.Task[Any],
        place: IntakePlace | None,
        timeout_s: float,
        elapsed_s: float,
    ) -> None:
        """Cancel reading an overdue body; otherwise check again in a second."""
        error = None
        if elapsed_s >= timeout_s:
            error = GatewayError(
                ErrorKind.BODY_TIMEOUT,
                f"The request body did not arrive within {timeout_s:g} seconds.",
            )
        elif place is not None:
            error = place.overdue(elapsed_s, self._received_bytes)
        if error is not None:
            self._overdue = error
            task.cancel()
            return
        next_s = min(_CHECK_S, timeout_s - elapsed_s)
        timers: Timers = task.get_loop() if place is None else place.timers
        self._timer = timers.call_later(
            next_s, self._check_body, task, place, timeout_s, elapsed_s + next_s
        )

    async def _read(
        self, pieces: list[bytes], limit_bytes: int, declared: int, place: IntakePlace | None
    ) -> None:
        size = 0
        while not self._read_whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise self._ended_early()
            piece: bytes = message.get("body", b"")
            size += len(piece)
            self._read_whole = size == declared or not message.get("more_body", False)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if place is not None:
                place.add(len(piece))
                self._received_bytes = size
            pieces.append(piece)

    def _ended_early(self) -> GatewayError:
        """Return why the body is incomplete. Granian reports malformed chunks as a disconnect."""
        self._broke_off = True
        if self.header(b"transfer-encoding") is not None:
            return GatewayError(
                ErrorKind.BAD_REQUEST,
                "The request body ended early, or its chunked encoding is malformed.",
            )
        self._gone = True
        return GatewayError(ErrorKind.CLIENT_GONE, "The client left before its body ended.")

    async def drain(self, limit_bytes: int = _DRAIN_BYTES) -> None:
        """
        Discard an unused body of at most `limit_bytes` before an early response.

        With an unread body the connection cannot be reused, and a client that is still sending may
        lose the response. Large, endless and late bodies are left unread, as are those of clients
        that wait for `100 Continue`, and all bodies while `_MOST_DRAINS` are being discarded.
        """
        declared = read_digits(self.header(b"content-length") or b"0")
        if self._read_whole or self._broke_off or self._gone or self._overdue is not None:
            return
        if declared is None or declared > limit_bytes:
            return
        if self.header(b"expect") is not None or ClientChannel._draining >= _MOST_DRAINS:
            return
        ClientChannel._draining += 1
        try:
            await within(_DRAIN_S, self._discard(limit_bytes))
        except TimeoutError:
            pass  # the response is sent all the same
        finally:
            ClientChannel._draining -= 1

    async def respond_early(
        self, status: int, headers: Headers, body: bytes, drain_bytes: int = _DRAIN_BYTES
    ) -> None:
        """
        Send a whole response to a request whose body may be unread; discard it, see `drain`.

        If a large one is left unread, the response says that the connection ends: the server
        closes it then, but not if all of a small body has arrived.
        """
        await self.drain(drain_bytes)
        declared = read_digits(self.header(b"content-length") or b"")
        if not self._read_whole and (declared is None or declared > SMALL_BODY_BYTES):
            headers = [*headers, (b"connection", b"close")]
        await self.respond(status, headers, body)

    async def respond_at_once(self, status: int, headers: Headers, body: bytes) -> None:
        """
        Send a whole response without reading a small body; otherwise see `respond_early`.

        The server discards a body that has arrived, which costs half as much as to read it. It
        closes the connection after the response if the body is still on its way.
        """
        declared = read_digits(self.header(b"content-length") or b"")
        if declared is not None and declared <= _ARRIVED_BYTES:
            await self.respond(status, headers, body)
        else:
            await self.respond_early(status, headers, body)

    async def _discard(self, limit_bytes: int) -> None:
        header, size = self.header(b"content-length"), 0
        while not self._read_whole and size <= limit_bytes:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._ended_early()
                return
            size += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            self._read_whole = ended or (header is not None and size == read_digits(header))

    def record(self, limit_bytes: int) -> None:
        """Keep a copy of the response, of at most `limit_bytes`. Call it before it starts."""
        self._copy = ResponseRecorder(limit_bytes)

    def recorded(self, request_id: str) -> StoredResponse | None:
        """Return the copy, as the response to call `request_id`; None if there is none."""
        return None if self._copy is None else self._copy.stored_response(request_id)

    def watch_gone(self, on_gone: Callable[[], object]) -> None:
        """Call `on_gone` when the client leaves. Call it once, after `read_body`."""
        self._on_gone = on_gone
        self._watch()

    def _watch(self) -> None:
        step = self._receive().__await__()
        try:
            pending: Any = next(step)
        except StopIteration as stop:
            self._disconnected(stop.value)
            return
        pending.add_done_callback(self._received)

    def _received(self, pending: asyncio.Future[Message]) -> None:
        if not pending.cancelled() and pending.exception() is None:
            self._disconnected(pending.result())

    def _disconnected(self, message: Message) -> None:
        if self.ended:
            return  # Granian also resolves `receive` when the response has ended
        if message["type"] != "http.disconnect":
            self._watch()  # the body's empty last piece, which `read_body` did not wait for
            return
        self._gone = True
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()

    @property
    def holds(self) -> bool:
        """Whether a stream must wait for its first content."""
        return False

    def may_start(self, now: float) -> bool:  # noqa: ARG002 # see `pipeline.hedging`
        """Return whether a stream that was silent for long may start without content."""
        return True

    def claim(self) -> None:
        """Ensure that the client gets this response; called before it is stored."""

    def start(self, status: int, headers: Headers) -> None:
        """
        Send the response head, after which no retry is possible.

        Granian sends it at once and never waits.
        """
        self.started = True
        if not self.opened:
            self._send_head(status, headers)

    def open(self, headers: Headers) -> None:
        """Send the head of a stream before its response is known; `start` sends no other one."""
        self.opened = True
        self._send_head(200, headers)

    def _send_head(self, status: int, headers: Headers) -> None:
        if ClientChannel.closing and (b"connection", b"close") not in headers:
            headers = [*headers, (b"connection", b"close")]
        if self._copy is not None:
            self._copy.start(status, headers)
        step = self._send(
            {"type": "http.response.start", "status": status, "headers": headers}
        ).__await__()
        try:
            next(step)
        except StopIteration:
            return
        raise RuntimeError("the ASGI server waits on a response head")

    def try_write(self, chunk: bytes) -> Awaitable[None] | None:
        """
        Write, without waiting if possible.

        Returns:
            None if the bytes were accepted; else an awaitable that must finish before the next
            write.
        """
        if self._copy is not None:
            self._copy.add(chunk)
        step: Iterator[object] = self._send(
            {"type": "http.response.body", "body": chunk, "more_body": True}
        ).__await__()
        try:
            pending = next(step)
        except StopIteration:
            return None
        return Stepped(pending, step)

    async def end(self, chunk: bytes = b"") -> None:
        """Send the last bytes and complete the response."""
        self.ended = True
        self._on_gone = None  # refers to this channel
        if self._copy is not None:
            self._copy.add(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response."""
        self.start(status, headers)
        await self.end(body)


def _too_large(limit_bytes: int) -> GatewayError:
    return GatewayError(
        ErrorKind.BODY_TOO_LARGE,
        f"Request exceeds the maximum size of {limit_bytes} bytes.",
    )

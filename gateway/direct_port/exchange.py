"""
One request and its response: the ASGI `receive` and `send` of the direct port.

`pipeline.client.channel` depends on how they wait. What `receive` returns is finished already if
there is a message, else it is a future of the message. `send` writes a piece of the body before it
returns; what it returns is finished already, unless the client is slow: then it is a future that is
done when the client has read enough, or has left. A head is written with the first piece of the
body, or in the loop's next turn if none has followed: a write of its own is a system call, and one
more packet for the client to read.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from gateway.direct_port.chunks import ChunkReader
from gateway.direct_port.head import CHUNKED, RequestHead
from gateway.direct_port.response import ResponseHead, response_head

Message = dict[str, Any]

BODY_BACKLOG_BYTES: Final = 64 * 1024
"""Reading pauses when more than this has arrived of a body that nobody asks for."""

_ONE_WRITE_BYTES: Final = 64 * 1024
"""A longer piece is not copied to follow the head in one write."""
_GONE: Final = {"type": "http.disconnect"}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Wire(Protocol):
    """The part of a connection that an exchange uses."""

    def write(self, data: bytes) -> None:
        """Write; bytes for a client that has left are dropped."""

    def drained(self) -> Future[None] | None:
        """Return what is done when the client has read enough; None if it has."""

    def new_future(self) -> Future[Message]:
        """Return a future of the connection's loop."""

    def call_soon(self, callback: Callable[[], None]) -> object:
        """Call `callback` in the next turn of the connection's loop."""

    def date(self) -> bytes:
        """Return the line of the header `date`."""

    def serves_more(self) -> bool:
        """Return whether the connection may serve another request."""

    def body_taken(self) -> None:
        """Read on, if reading was paused because the body was not taken."""

    def response_ended(self, *, keep_alive: bool) -> None:
        """Go on to the next request, or close the connection. The exchange is over."""


class _Finished:
    """An awaitable that does not wait."""

    __slots__ = ("_result",)

    def __init__(self, result: Message | None) -> None:
        self._result = result

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> _Finished:
        return self

    def __next__(self) -> object:
        raise StopIteration(self._result)


_SENT: Final = _Finished(None)


class Exchange:
    """
    A request whose head was read.

    Args:
        wire: Its connection.
        head: Its head.
    """

    __slots__ = (
        "_arrived",
        "_asked",
        "_chunks",
        "_continue_due",
        "_head",
        "_remaining",
        "_response",
        "_response_head",
        "_unsent",
        "_wire",
        "backlog_bytes",
        "body_ended",
        "ended",
        "stopped",
    )

    def __init__(self, wire: Wire, head: RequestHead) -> None:
        self._wire: Wire | None = wire
        self._head = head
        self._chunks = ChunkReader() if head.length == CHUNKED else None
        self._remaining = head.length
        self._continue_due = head.expects_continue
        self._arrived: list[bytes] = [] if head.length else [b""]
        self._asked: Future[Message] | None = None
        self.stopped = False
        """Nothing more is received."""
        self._response: ResponseHead | None = None
        self._response_head = b""  # until it is written
        self._unsent = 0
        self.backlog_bytes = 0
        """What has arrived of the body and was not taken."""
        self.body_ended = head.length == 0
        self.ended = False
        """The response is complete."""

    @property
    def started(self) -> bool:
        """Whether a response was begun."""
        return self._response is not None

    # The request.

    def body_received(self, data: bytes) -> bytes:
        """
        Take the body's part of `data`; return what follows the body.

        Raises:
            MalformedChunksError: See `ChunkReader.feed`.
        """
        self._continue_due = False
        rest = b""
        if self._chunks is not None:
            piece = b"".join(self._chunks.feed(data))
            self.body_ended = self._chunks.ended
            rest = self._chunks.rest
        else:
            piece = data
            if len(data) > self._remaining:
                piece, rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(piece)
            self.body_ended = not self._remaining
        if self._wire is not None and (piece or self.body_ended):
            self._arrived.append(piece)
            self.backlog_bytes += len(piece)
            self._answer()
        return rest

    def stop(self) -> None:
        """Tell the application that nothing more is received: `http.disconnect`."""
        self.stopped = True
        self._answer()

    def leave(self) -> None:
        """As `stop`, and drop what is still sent: the connection is gone."""
        self._wire = None
        self.stop()

    def receive(self) -> Awaitable[Any]:
        """Return an awaitable of the next message."""
        message = self._next_message()
        if message is not None:
            return _Finished(message)
        wire = self._wire
        assert wire is not None
        if self._continue_due:
            self._continue_due = False
            wire.write(_CONTINUE)
        self._asked = asked = wire.new_future()
        return asked

    def _answer(self) -> None:
        """Give the application what it waits for, if it is there."""
        asked = self._asked
        if asked is None:
            return
        message = self._next_message()
        if message is not None:
            self._asked = None
            if not asked.done():
                asked.set_result(message)

    def _next_message(self) -> Message | None:
        """Return what has arrived, or the end; None if neither."""
        if self._arrived:
            pieces, self._arrived = self._arrived, []
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.backlog_bytes = 0
            if self._wire is not None:
                self._wire.body_taken()
            return {"type": "http.request", "body": body, "more_body": not self.body_ended}
        return _GONE if self.stopped or self._wire is None else None

    # The response.

    def send(self, message: Message) -> Awaitable[None]:
        """Write a message of the response; see the module."""
        wire = self._wire
        if wire is None:
            return _SENT
        if message["type"] == "http.response.start":
            self._start(wire, message)
            return _SENT
        response = self._response
        assert response is not None, "the body of a response before its head"
        more: bool = message["more_body"]
        data = self._framed(response, message["body"], more)
        if self._response_head:
            if len(data) <= _ONE_WRITE_BYTES:
                data = self._response_head + data
                self._response_head = b""
            else:
                self._write_head()
        if data:
            wire.write(data)
        if more:
            return wire.drained() or _SENT
        self._end(wire, response)
        return _SENT

    def _start(self, wire: Wire, message: Message) -> None:
        head = self._head
        self._continue_due = False
        self._response = response = response_head(
            message["status"],
            message["headers"],
            wire.date(),
            method=head.method,
            version=head.version,
            keep_alive=head.keep_alive and not self.stopped and wire.serves_more(),
        )
        self._unsent = response.length or 0
        self._response_head = response.data
        wire.call_soon(self._write_head)

    def _write_head(self) -> None:
        """Write the response head, if it is not written yet."""
        data, self._response_head = self._response_head, b""
        if data and self._wire is not None:
            self._wire.write(data)

    def _framed(self, response: ResponseHead, body: bytes, more: bool) -> bytes:
        """Return what is to be written of a piece of the body."""
        if response.chunked:
            if more:
                return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        if not response.has_body:
            return b""
        if response.length is not None:
            if len(body) > self._unsent:
                body = body[: self._unsent]
            self._unsent -= len(body)
        return body

    def _end(self, wire: Wire, response: ResponseHead) -> None:
        self.ended = True
        self._wire = None
        self._asked = None  # its callbacks refer to this exchange
        self._arrived.clear()
        # What follows a response that lacks bytes would be read as a part of it.
        wire.response_ended(keep_alive=response.keep_alive and not self._unsent)

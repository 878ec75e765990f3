"""
A response over one HTTP/1.1 connection; implements `ports.UpstreamResponse`.

The connection pushes body bytes through its `deliver` attribute. While the stream flows this is the
sink's own `body_chunk`; before `start`, while paused and while bytes are pending it is `buffer`,
which keeps the bytes and pauses the socket. So at most the bytes after the head plus one read are
buffered, and a flowing stream costs one call per read.

A complete message releases the connection to its pool at once; undelivered bytes stay here.

Rule: the sink is not called between `pause` and `resume`, not even at the end of the body, nor
before `start` or `resume` return, nor after `close` or the end.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Protocol

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers
from gateway.upstream.errors import upstream_failure
from gateway.upstream.whole_body import body_too_large, read_whole


class BodySource(Protocol):
    """The part of a connection that a response uses."""

    deliver: Callable[[bytes], None]
    """Called with the body bytes of each network read."""

    def pause_reading(self) -> None:
        """Stop reading the socket. Idempotent."""

    def resume_reading(self) -> None:
        """Continue reading. Idempotent; delivers nothing before it returns."""

    def drop(self) -> None:
        """Close the socket at once. Idempotent."""


class _End(enum.Enum):
    """How a body ended without a failure."""

    COMPLETE = enum.auto()
    CLOSED = enum.auto()


class Http1Response:
    """A response whose head has been received."""

    __slots__ = (
        "_connection",
        "_flowing",
        "_flush_due",
        "_loop",
        "_origin",
        "_outcome",
        "_paused",
        "_pending",
        "_sink",
        "headers",
        "status",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: BodySource,
        origin: Origin,
        status: int,
        headers: Headers,
    ) -> None:
        self._loop = loop
        self._connection: BodySource | None = connection
        self._origin = origin
        self._sink: BodySink | None = None
        self._pending: list[bytes] = []
        self._outcome: _End | GatewayError | None = None
        self._flowing = False
        self._paused = False
        self._flush_due = False
        self.status = status
        self.headers = headers

    @property
    def complete(self) -> bool:
        """Whether the whole body has been received."""
        return self._outcome is _End.COMPLETE

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink`, from the loop's next iteration on; no-op after `close`."""
        if self._outcome is _End.CLOSED:
            return
        self._sink = sink
        if not self._paused:
            self._schedule()

    def pause(self) -> None:
        """Stop reading the socket; the sink is not called until `resume`. Idempotent."""
        if self._paused:
            return
        self._paused = True
        self._flowing = False
        connection = self._connection
        if connection is not None:
            connection.deliver = self.buffer
            connection.pause_reading()

    def resume(self) -> None:
        """Continue after `pause`. Idempotent; pushes nothing before it returns."""
        if not self._paused:
            return
        self._paused = False
        if self._sink is not None:
            self._schedule()

    def close(self) -> None:
        """Drop the connection unless it was released; the sink is not called again. Idempotent."""
        connection, self._connection = self._connection, None
        self._sink = None
        self._flowing = False
        self._pending.clear()
        self._outcome = _End.CLOSED
        if connection is not None:
            connection.drop()

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body. Cancelling closes the response.

        Raises:
            GatewayError: UPSTREAM_BROKEN if the body is incomplete, UPSTREAM_MALFORMED beyond the
                limit.
        """
        if self._outcome is _End.CLOSED:
            raise upstream_failure(ErrorKind.UPSTREAM_BROKEN, self._origin, "read after close")
        if self._outcome is not _End.COMPLETE:
            return await read_whole(self, self._origin, limit_bytes)
        body = b"".join(self._pending)
        self.close()
        if len(body) > limit_bytes:
            raise body_too_large(self._origin, limit_bytes)
        return body

    def buffer(self, chunk: bytes) -> None:
        """Keep a chunk that the sink cannot take now, and pause the socket."""
        self._pending.append(chunk)
        if self._connection is not None:
            self._connection.pause_reading()

    def finish(self, last: bytes) -> None:
        """Deliver the last bytes and the end of the body; the connection has been released."""
        self._connection = None
        self._outcome = _End.COMPLETE
        if last:
            if self._flowing and self._sink is not None:
                self._sink.body_chunk(last)
            else:
                self._pending.append(last)
        if self._flowing:
            self._notify_end()

    def fail(self, error: GatewayError) -> None:
        """Deliver the failure of the body; the connection has been dropped."""
        self._connection = None
        self._outcome = error
        if self._flowing:
            self._notify_end()

    def _notify_end(self) -> None:
        sink, self._sink = self._sink, None
        self._flowing = False
        if sink is None:
            return
        if isinstance(self._outcome, GatewayError):
            sink.body_failed(self._outcome)
        else:
            sink.body_end()

    def _schedule(self) -> None:
        """Flush pending bytes in the loop's next iteration, or continue reading."""
        if not self._pending and self._outcome is None:
            self._continue()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _continue(self) -> None:
        if self._sink is None or self._connection is None:
            return
        self._flowing = True
        self._connection.deliver = self._sink.body_chunk
        self._connection.resume_reading()

    def _flush(self) -> None:
        self._flush_due = False
        sink = self._active_sink()
        if sink is None:
            return
        if self._pending:
            chunk = b"".join(self._pending)
            self._pending.clear()
            sink.body_chunk(chunk)
            if self._active_sink() is None:
                return
        if self._outcome is None:
            self._continue()
        else:
            self._notify_end()

    def _active_sink(self) -> BodySink | None:
        return None if self._paused else self._sink

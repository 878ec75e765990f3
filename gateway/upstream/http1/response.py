"""
An answer as its owner sees it: `ports.UpstreamResponse` over one HTTP/1.1 connection.

The connection pushes body bytes through its `deliver` attribute. While the owner listens that is
the sink's own `body_chunk`; before `start`, while paused and while something still waits, it is
`hold`, which keeps the bytes here and stops the socket. So at most what came with the head plus
one read waits, and the running stream pays for one call per read.

When the message is complete on the wire the connection leaves at once (to its pool); what the
owner has not heard yet stays here.

Rule: between `pause` and `resume` the sink hears nothing, not even the end; `start` and `resume`
push nothing before they return. After `close`, or after the end, it hears nothing more.
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
    """What a response needs of its connection."""

    deliver: Callable[[bytes], None]
    """Called with the body bytes of each network read."""

    def pause_reading(self) -> None:
        """Stop reading the socket. Idempotent."""

    def resume_reading(self) -> None:
        """Read again. Idempotent; delivers nothing before it returns."""

    def drop(self) -> None:
        """Close the socket at once. Idempotent."""


class _End(enum.Enum):
    """How a body ended without a failure."""

    COMPLETE = enum.auto()
    CLOSED = enum.auto()


class Http1Response:
    """A response whose head has come; implements `ports.UpstreamResponse`."""

    __slots__ = (
        "_connection", "_flush_due", "_live", "_loop", "_origin", "_outcome", "_paused", "_pending",
        "_sink", "headers", "status",
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
        self._live = False
        self._paused = False
        self._flush_due = False
        self.status = status
        self.headers = headers

    def start(self, sink: BodySink) -> None:
        """Push the body into `sink` from the next turn of the loop on; nothing after `close`."""
        if self._outcome is _End.CLOSED:
            return
        self._sink = sink
        if not self._paused:
            self._wake()

    def pause(self) -> None:
        """Stop reading the socket; the sink hears nothing until `resume`. Idempotent."""
        if self._paused:
            return
        self._paused = True
        self._live = False
        connection = self._connection
        if connection is not None:
            connection.deliver = self.hold
            connection.pause_reading()

    def resume(self) -> None:
        """Read again after `pause`. Idempotent; pushes nothing before it returns."""
        if not self._paused:
            return
        self._paused = False
        if self._sink is not None:
            self._wake()

    def close(self) -> None:
        """Drop the connection unless the body is complete; the sink hears no more. Idempotent."""
        connection, self._connection = self._connection, None
        self._sink = None
        self._live = False
        self._pending.clear()
        self._outcome = _End.CLOSED
        if connection is not None:
            connection.drop()

    async def read(self, limit_bytes: int) -> bytes:
        """
        Return the whole body. Cancelling closes the response.

        Raises:
            GatewayError: UPSTREAM_BROKEN when it breaks off, UPSTREAM_MALFORMED beyond the limit.
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

    def hold(self, chunk: bytes) -> None:
        """Keep a chunk that nobody can take now, and stop the socket."""
        self._pending.append(chunk)
        if self._connection is not None:
            self._connection.pause_reading()

    def finish(self, last: bytes) -> None:
        """Take the last bytes and the end of the body. The connection is no longer ours."""
        self._connection = None
        self._outcome = _End.COMPLETE
        if last:
            if self._live and self._sink is not None:
                self._sink.body_chunk(last)
            else:
                self._pending.append(last)
        if self._live:
            self._tell_end()

    def fail(self, error: GatewayError) -> None:
        """Take the failure of the body. The connection is gone."""
        self._connection = None
        self._outcome = error
        if self._live:
            self._tell_end()

    def _tell_end(self) -> None:
        sink, self._sink = self._sink, None
        self._live = False
        if sink is None:
            return
        if isinstance(self._outcome, GatewayError):
            sink.body_failed(self._outcome)
        else:
            sink.body_end()

    def _wake(self) -> None:
        """Let the sink hear what waits, on the loop's next turn; else go on reading."""
        if not self._pending and self._outcome is None:
            self._go_live()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _go_live(self) -> None:
        if self._sink is None or self._connection is None:
            return
        self._live = True
        self._connection.deliver = self._sink.body_chunk
        self._connection.resume_reading()

    def _flush(self) -> None:
        self._flush_due = False
        sink = self._listener()
        if sink is None:
            return
        if self._pending:
            chunk = b"".join(self._pending)
            self._pending.clear()
            sink.body_chunk(chunk)
            if self._listener() is None:
                return
        if self._outcome is None:
            self._go_live()
        else:
            self._tell_end()

    def _listener(self) -> BodySink | None:
        return None if self._paused else self._sink

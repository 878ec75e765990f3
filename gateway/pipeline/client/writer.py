"""
Writes one response to a client that may be slow.

A write that does not finish at once pauses the producer; one task finishes it and the writes queued
meanwhile, and then resumes the producer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import Headers
from gateway.timeouts import within

HELD_BYTES = 64 * 1024
"""A stream that has sent more without any content starts."""


class ResponseHead(NamedTuple):
    status: int
    headers: Headers
    on_sent: Callable[[], None]
    """Called once, just before the head is sent; after that no retry is possible."""


class FlowControl(Protocol):
    """The callbacks of a `ClientWriter` to its producer."""

    def pause_writing(self) -> None:
        """Stop producing: the client is slow."""

    def resume_writing(self) -> None:
        """Continue: everything produced so far was written."""

    def write_stalled(self, error: GatewayError) -> None:
        """Handle a write that was abandoned: the client accepted no bytes within the limit."""

    def write_failed(self, error: Exception) -> None:
        """Handle an exception of the write."""


class _Ended:
    """The `FlowControl` of a producer that has ended."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def write_stalled(self, error: GatewayError) -> None: ...

    def write_failed(self, error: Exception) -> None: ...


_ENDED = _Ended()


class ClientWriter:
    """
    The response's side of a `ClientChannel`: head, order, back-pressure, stall limit.

    Args:
        channel: The client.
        head: Sent with the first bytes.
        stall_s: Writes that take longer are abandoned.
        producer: Paused while the client is slow.
    """

    __slots__ = (
        "_channel",
        "_head",
        "_last",
        "_previous",
        "_producer",
        "_queued",
        "_stall_s",
        "_task",
    )

    def __init__(
        self,
        channel: ClientChannel,
        head: ResponseHead,
        stall_s: float,
        producer: FlowControl,
    ) -> None:
        self._channel = channel
        self._head = head
        self._stall_s = stall_s
        self._producer = producer
        self._task: asyncio.Task[None] | None = None
        self._queued: list[bytes] = []
        self._previous = b""
        self._last = b""

    @property
    def committed(self) -> bool:
        """Whether the response head was sent."""
        return self._channel.started

    @property
    def busy(self) -> bool:
        """Whether a write waits for the client."""
        return self._task is not None

    @property
    def tail(self) -> tuple[bytes, bytes]:
        """The last two pieces written, which show whether they end at an event boundary."""
        return self._previous, self._last

    def commit(self) -> None:
        """Send the response head without any bytes of the body."""
        head = self._head
        head.on_sent()
        self._channel.start(head.status, head.headers)

    def write(self, chunk: bytes) -> None:
        """Write now, or after the write in progress."""
        if self._task is not None:
            self._queued.append(chunk)  # bounded by what the transport read before it was paused
            return
        channel = self._channel
        if not channel.started:
            self.commit()
        self._previous = self._last
        self._last = chunk
        pending = channel.try_write(chunk)
        if pending is not None:
            self._producer.pause_writing()
            self._task = asyncio.get_running_loop().create_task(self._finish_write(pending))

    def release(self) -> None:
        """Send what is held, if anything is: the first content has come."""

    async def write_last(self, chunk: bytes) -> None:
        """
        Write a last piece, after the producer has ended.

        Raises:
            GatewayError: SLOW_CLIENT: the client did not accept it within the stall limit.
        """
        if not self._channel.started:
            self.commit()
        pending = self._channel.try_write(chunk)
        if pending is None:
            return
        try:
            await within(self._stall_s, pending)
        except TimeoutError as error:
            raise self._stalled() from error

    def discard(self) -> bool:
        """Drop everything unwritten; return whether a write was in progress."""
        task, self._task = self._task, None
        self._queued.clear()
        if task is not None:
            task.cancel()
        return task is not None

    async def aclose(self) -> None:
        """Stop writing and wait for the write in progress. Idempotent."""
        task, self._task = self._task, None
        self._producer = _ENDED  # it refers to this writer
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _finish_write(self, pending: Awaitable[None]) -> None:
        try:
            await within(self._stall_s, self._write_queued(pending))
        except TimeoutError:
            self._task = None
            self._producer.write_stalled(self._stalled())
        except Exception as error:  # noqa: BLE001 # the root of this task
            self._producer.write_failed(error)
        else:
            self._task = None
            self._producer.resume_writing()

    async def _write_queued(self, pending: Awaitable[None]) -> None:
        await pending
        while self._queued:
            chunk = b"".join(self._queued)
            self._queued.clear()
            self._previous, self._last = self._last, chunk
            more = self._channel.try_write(chunk)
            if more is not None:
                await more

    def _stalled(self) -> GatewayError:
        return GatewayError(
            ErrorKind.SLOW_CLIENT, f"The client took no bytes for {self._stall_s:g} s."
        )


class HoldingWriter(ClientWriter):
    """
    A writer that sends nothing before the first content.

    Until then another deployment may still serve the call. What it holds is bounded.
    """

    __slots__ = ("_held", "_held_bytes")

    def __init__(
        self, channel: ClientChannel, head: ResponseHead, stall_s: float, producer: FlowControl
    ) -> None:
        super().__init__(channel, head, stall_s, producer)
        self._held: list[bytes] | None = []
        self._held_bytes = 0

    def commit(self) -> None:
        """Send the response head, and what was held."""
        held, self._held = self._held, None
        super().commit()
        if held:
            super().write(b"".join(held))

    def write(self, chunk: bytes) -> None:
        """Hold until `release`, then write."""
        if self._held is None:
            super().write(chunk)
            return
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > HELD_BYTES:
            self.commit()

    def release(self) -> None:
        """Send what is held: the first content has come."""
        if self._held is not None:
            self.commit()

    async def write_last(self, chunk: bytes) -> None:
        """Write a last piece, and before it what is held."""
        held, self._held = self._held or [], None
        await super().write_last(b"".join((*held, chunk)))

    def discard(self) -> bool:
        """Drop all that is not written; return whether anything was being written."""
        if self._held is not None:
            self._held = []
        return super().discard()

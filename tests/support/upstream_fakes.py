"""Fakes around the upstream transport: a socket without a network, a sink, requests."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.model import Clocks, Origin
from gateway.errors import GatewayError
from gateway.ports import UpstreamRequest, UpstreamResponse
from gateway.upstream.http1.connection import Http1Connection

ORIGIN = Origin(host="upstream.test", port=80, tls=False)
HEADERS = ((b"host", b"upstream.test"), (b"authorization", b"Bearer sk-secret"))


def clocks(connect_s: float = 5.0) -> Clocks:
    """Return clocks of which the transport looks at `connect_s` only."""
    return Clocks(connect_s, 5.0, 5.0, 5.0, 5.0)


def a_request(
    method: str = "POST",
    body: bytes = b"{}",
    *,
    origin: Origin = ORIGIN,
    path: str = "/v1/x",
    head_timeout_s: float = 5.0,
    connect_s: float = 5.0,
) -> UpstreamRequest:
    """Return a request with the usual headers."""
    return UpstreamRequest(
        origin=origin, method=method, path=path, headers=HEADERS, body=body,
        clocks=clocks(connect_s), head_timeout_s=head_timeout_s,
    )  # fmt: skip


class FakeTransport(asyncio.Transport):
    """A socket as the event loop offers it: records writes, knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.buffered = 0
        self.high_water: int | None = None
        self.reading = True
        self.aborted = False
        self.protocol: Any = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        if self.high_water is not None:
            self.buffered += len(data)
            if self.buffered > self.high_water:
                self.protocol.pause_writing()

    def flush(self) -> None:
        """Take everything off, as a socket does that has become writable."""
        self.buffered = 0
        self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True


class FakePool:
    """An owner of connections that only notes what happens to them."""

    def __init__(self) -> None:
        self.released_count = 0
        self.lost_count = 0

    def released(self, connection: Http1Connection) -> None:
        self.released_count += 1

    def lost(self, connection: Http1Connection) -> None:
        self.lost_count += 1


class RecordingSink:
    """A sink that records what it receives, and can act on it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size_bytes = 0
        self.keep = True
        self.end = ""
        self.error: GatewayError | None = None
        self.ended = asyncio.Event()
        self.on_chunk: Any = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def body_chunk(self, chunk: bytes) -> None:
        assert not self.end, "a chunk after the end"
        assert chunk, "an empty chunk"
        self.size_bytes += len(chunk)
        if self.keep:
            self.chunks.append(chunk)
        if self.on_chunk is not None:
            self.on_chunk(chunk)

    def body_end(self) -> None:
        assert not self.end, "two ends"
        self.end = "complete"
        self.ended.set()

    def body_failed(self, error: GatewayError) -> None:
        assert not self.end, "two ends"
        self.end = error.kind.value
        self.error = error
        self.ended.set()


class Wire:
    """One connection over a fake socket, owned by a fake pool."""

    def __init__(self) -> None:
        self.pool = FakePool()
        self.transport = FakeTransport()
        self.connection = Http1Connection(asyncio.get_running_loop(), ORIGIN, self.pool)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)
        self.task: asyncio.Task[UpstreamResponse] | None = None

    async def ask(self, request: UpstreamRequest | None = None, timeout_s: float = 5.0) -> None:
        """Begin an exchange and let it write."""
        asked = a_request() if request is None else request
        self.task = asyncio.ensure_future(self.connection.exchange(asked, timeout_s))
        await asyncio.sleep(0)

    def feed(self, data: bytes) -> None:
        """Bring bytes, unless the socket has been closed."""
        if not self.transport.aborted:
            self.connection.data_received(data)

    def hang_up(self, error: Exception | None = None) -> None:
        """End the connection from the other side."""
        if self.transport.aborted:
            return
        if error is None:
            self.connection.eof_received()
        self.connection.connection_lost(error)

    async def response(self) -> UpstreamResponse:
        assert self.task is not None
        return await self.task


async def turn() -> None:
    """Let the loop run what is due, twice over."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def answered(sent: bytes) -> tuple[Wire, RecordingSink]:
    """Return a wire on which `sent` has come in one read, and a sink that listens to it."""
    wire = Wire()
    await wire.ask()
    wire.feed(sent)
    sink = RecordingSink()
    (await wire.response()).start(sink)
    await turn()
    return wire, sink

"""
An HTTP/1.1 server whose responses are scripts: it sends exactly the bytes that a script writes.

Nothing is completed or checked, so a script can break the protocol anywhere. It can send a wrong
length, stop inside a chunk, or reset the connection. The demo upstream, the benchmarks and the
tests use it. A connection costs one task; a chunk costs one write.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

MAX_HEAD_BYTES = 256 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
"""A connection that sends more is closed."""
_HELD_BYTES = 64 * 1024
"""Reading pauses while more unread bytes than this are buffered."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_TLS_HANDSHAKE = 0x16
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"
"""A fatal `handshake_failure`."""


class TlsHelloError(Exception):
    """A client began a TLS handshake with a server that speaks plain HTTP."""


class Exchange:
    """One request, and the means to respond to it."""

    def __init__(self, connection: Connection, head: bytes, body: bytes) -> None:
        self.connection = connection
        self.head = head
        """The request line and headers, without the blank line."""
        self.body = body
        self.ended_at: float | None = None
        """When the script ended, on the monotonic clock."""

    @property
    def method(self) -> str:
        """The request's method."""
        return self._request_line[0]

    @property
    def target(self) -> str:
        """The request's path and query."""
        return self._request_line[1]

    @property
    def _request_line(self) -> list[str]:
        return self.head[: self.head.find(b"\r\n")].decode("latin-1").split(" ")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers in their order, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        parted = (line.partition(":") for line in lines if line)
        return [(name.lower(), value.strip()) for name, _, value in parted]

    def header(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        """The request's body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def gone_at(self) -> float | None:
        """When the client closed the connection, on the monotonic clock."""
        return self.connection.gone_at

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged and wait for room; ConnectionResetError if the client is gone."""
        await self.connection.send(data)

    async def chunk(self, piece: bytes) -> None:
        """Send one chunk of a chunked body."""
        await self.connection.send(chunk(piece))

    async def until_gone(self) -> None:
        """Return when the client has closed the connection."""
        await self.connection.until_gone()

    def close(self) -> None:
        """Close the connection after everything was sent."""
        self.connection.close()


class Connection(asyncio.Protocol):
    """One connection. A script reads requests from it, or bytes."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._held = bytearray()
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._discards = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()
        """Set when the client is gone or the script has ended."""
        self.gone_at: float | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The event loop's transport of this connection."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the script."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes, and wake the script if they are what it waits for."""
        if self._discards:
            return
        self._held += data
        if self._waiter is not None and len(self._held) >= self._wanted:
            self._wake()
        if len(self._held) > max(_HELD_BYTES, self._wanted) and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> None:
        """Treat a half-closed connection as closed."""
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note that the client is gone."""
        self._lost()

    def pause_writing(self) -> None:
        """Make `send` wait."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let `send` continue."""
        self._may_write.set()

    def write(self, data: bytes) -> None:
        """Send bytes without waiting for room."""
        self.transport.write(data)

    async def send(self, data: bytes) -> None:
        """Send bytes and wait for room; ConnectionResetError if the client is gone."""
        if self.gone_at is not None:
            raise ConnectionResetError
        self.transport.write(data)
        await self._may_write.wait()

    async def request(self) -> Exchange:
        """
        Return the next request.

        Raises:
            ConnectionResetError: There is none, or it is too large.
            TlsHelloError: The client expects TLS.
        """
        head = await self.read_until(_HEAD_END)
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if size > MAX_BODY_BYTES:
            raise ConnectionResetError
        body = await self.read_exactly(size) if size else b""
        return Exchange(self, head[: -len(_HEAD_END)], body)

    async def read_until(self, mark: bytes) -> bytes:
        """Return the bytes up to and including a mark."""
        while (at := self._held.find(mark)) < 0:
            if len(self._held) > MAX_HEAD_BYTES:
                raise ConnectionResetError
            if self._held and self._held[0] == _TLS_HANDSHAKE:
                raise TlsHelloError
            await self._more(len(self._held) + 1)
        return self._take(at + len(mark))

    async def read_exactly(self, size: int) -> bytes:
        """Return that many bytes."""
        while len(self._held) < size:
            await self._more(size)
        return self._take(size)

    async def read(self) -> bytes:
        """Return the buffered bytes, at least one; none if the client is gone."""
        if not self._held:
            try:
                await self._more(1)
            except ConnectionResetError:
                return b""
        return self._take(len(self._held))

    async def until_gone(self) -> None:
        """Return when the client has closed the connection; further bytes are dropped."""
        self._discards = True
        self._held.clear()
        self._resume()
        await self.closed.wait()

    def close(self) -> None:
        """Close the connection after everything was sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close the connection and drop what was not sent."""
        self.transport.abort()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abort()

    def _take(self, size: int) -> bytes:
        if size == len(self._held):
            taken = bytes(self._held)
            self._held.clear()
            return taken
        taken = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        return taken

    async def _more(self, wanted: int) -> None:
        """Wait until `wanted` bytes are buffered or the client is gone."""
        if self.gone_at is not None:
            raise ConnectionResetError
        self._wanted = wanted
        self._waiter = asyncio.get_running_loop().create_future()
        self._resume()
        await self._waiter
        self._wanted = 0

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _lost(self) -> None:
        if self.gone_at is None:
            self.gone_at = time.monotonic()
        self.closed.set()
        self._may_write.set()
        self._wake()


Script = Callable[[Connection], Awaitable[None]]
"""Serves one connection."""
Handler = Callable[[Exchange], Awaitable[None] | None]
"""Responds to one request. If it returns None, it has written its response or writes it later."""


class ScriptedServer:
    """
    Runs one script for each connection.

    Args:
        script: `ConnectionError` ends it quietly, another exception goes to the event loop's
            exception handler. The connection is closed when it ends.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(
        self, port: int = 0, *, tls: ssl.SSLContext | None = None, backlog: int = 4096
    ) -> int:
        """Listen on the loopback interface and return the port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, ssl=tls, backlog=backlog
        )
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def stop_listening(self) -> None:
        """Refuse new connections; those that exist remain."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def aclose(self) -> None:
        """Stop listening and end all scripts."""
        self.stop_listening()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def opened(self, connection: Connection) -> None:
        """Run the script for a new connection."""
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection) -> None:
        try:
            await self._script(connection)
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            connection.abort()
        except Exception as error:  # noqa: BLE001 (reported; other scripts continue)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "A script of the scripted server failed", "exception": error}
            )
        finally:
            connection.closed.set()
            connection.close()


def each_request(handler: Handler, on_tls_hello: Callable[[], None] | None = None) -> Script:
    """Return a script that passes one request after the other to a handler."""

    async def serve(connection: Connection) -> None:
        try:
            while True:
                exchange = await connection.request()
                response = handler(exchange)
                if response is not None:
                    await response
                exchange.ended_at = time.monotonic()
        except TlsHelloError:
            connection.write(TLS_ALERT)
            if on_tls_hello is not None:
                on_tls_hello()

    return serve


CHUNKED_END = b"0\r\n\r\n"


def stream_head(headers: bytes = b"") -> bytes:
    """Return the head of a stream; `headers` are complete lines."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%b"
        b"transfer-encoding: chunked\r\n\r\n" % headers
    )


STREAM_HEAD = stream_head()


def chunk(piece: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def head(status: int, length: int, headers: bytes = b"") -> bytes:
    """Return the head of a JSON response; `headers` are complete lines."""
    return (
        b"HTTP/1.1 %d Status\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
        % (status, headers, length)
    )


def whole(body: bytes, status: int = 200, headers: bytes = b"") -> bytes:
    """Return a JSON response."""
    return head(status, len(body), headers) + body

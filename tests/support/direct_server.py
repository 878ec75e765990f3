"""A direct port on this process's event loop, with an application that a test writes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.direct_port.connection import App
from gateway.direct_port.server import DirectServer

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


class Times(NamedTuple):
    """The limits of a server, far away."""

    header_timeout_s: float = 60.0
    idle_timeout_s: float = 60.0
    send_stall_s: float = 60.0


FAR = Times()


class Client(NamedTuple):
    """One connection to it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """Return the next head."""
        async with asyncio.timeout(20):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self) -> tuple[bytes, bytes]:
        """Return the next response with a length: status line and body."""
        head = await self.head()
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await self.reader.readexactly(int(lines.get(b"content-length", b"0")))
        return head.partition(b"\r\n")[0], body

    async def pour(self, data: bytes, times: int, poured: list[int]) -> None:
        """Send `data` again and again, as fast as it is taken; count what was taken."""
        for _ in range(times):
            self.writer.write(data)
            await self.writer.drain()
            poured[0] += len(data)

    async def rest(self) -> bytes:
        """Return what is sent until the connection ends; a reset is an end, too."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


class Running(NamedTuple):
    """A running server."""

    server: DirectServer
    port: int

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """Connect."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def serving(
    app: App, times: Times = FAR, max_connections: int = 100
) -> AsyncIterator[Running]:
    """Serve an application."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    server = DirectServer(app, listener, times, max_connections)
    server.start()
    try:
        yield Running(server, listener.getsockname()[1])
    finally:
        server.stop_accepting()
        server.abort()
        async with asyncio.timeout(5):
            await server.finish()
        server.stop()


async def read_body(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body + b"!"
        body += message["body"]
        if not message["more_body"]:
            return body


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    """Send a whole response."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Respond with method, path and body."""
    body = await read_body(receive)
    await respond(send, b"%b %b %b" % (scope["method"].encode(), scope["raw_path"], body))

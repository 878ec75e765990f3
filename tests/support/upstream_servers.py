"""Real local upstreams for the transport's tests: asyncio servers with scripted responses."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trustme

from gateway.core.model import Origin
from gateway.demo.server import Connection, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\n"
BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Visit:
    """One connection, as the upstream has it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.closed = connection.closed

    async def request(self) -> bytes:
        """Return the next request, head and body; ConnectionResetError if there is none."""
        exchange = await self.connection.request()
        return exchange.head + b"\r\n\r\n" + exchange.body

    async def send(self, data: bytes) -> None:
        """Send, and wait until the socket has taken it."""
        await self.connection.send(data)

    async def answer(self, body: bytes, *, headers: bytes = b"") -> None:
        """Send a whole response."""
        await self.send(OK + b"Content-Length: %d\r\n" % len(body) + headers + b"\r\n" + body)

    async def until_gone(self) -> None:
        """Return when the other side has closed."""
        await self.connection.until_gone()


Script = Callable[[Visit], Awaitable[None]]


class Upstream:
    """A server that plays one script per connection."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.visits: list[Visit] = []
        self.server = ScriptedServer(self._welcome)
        self.origin = Origin(host="127.0.0.1", port=0, tls=False)

    def with_origin(self, **changes: object) -> Origin:
        """Return the origin, changed."""
        return msgspec.structs.replace(self.origin, **changes)

    async def _welcome(self, connection: Connection) -> None:
        visit = Visit(connection)
        self.visits.append(visit)
        await self._script(visit)


@asynccontextmanager
async def serve(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """Run an upstream on a free port for the length of a block."""
    upstream = Upstream(script)
    port = await upstream.server.listen(tls=tls)
    upstream.origin = Origin(host=host, port=port, tls=tls is not None)
    try:
        yield upstream
    finally:
        await upstream.server.aclose()


async def json_forever(visit: Visit) -> None:
    """Respond to every request with a small JSON body."""
    while True:
        await visit.request()
        await visit.answer(b'{"ok":true}')


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return the context of a server that proves these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        context.set_alpn_protocols(["http/1.1"])
        return context


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One authority for the whole run: keys are slow to make."""
    return Authority()


class Still:
    """Whether a number has stopped changing, for as long as it takes to be sure."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._last = -1
        self._seen = 0

    def __call__(self) -> bool:
        now = self._number()
        self._seen = self._seen + 1 if now == self._last else 0
        self._last = now
        return self._seen > 20

"""The scripted server: scripts get whole requests, and their bytes arrive unchanged."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from gateway.demo import server as demo
from gateway.demo.server import Connection, Exchange, ScriptedServer, each_request

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


@asynccontextmanager
async def connected(script: demo.Script) -> AsyncIterator[Streams]:
    """Run a server and connect to it."""
    server = ScriptedServer(script)
    port = await server.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await server.aclose()


def post(body: bytes, *, name: bytes = b"Content-Length") -> bytes:
    return b"POST /a?b HTTP/1.1\r\nX-One: 1\r\n%b: %d\r\n\r\n%b" % (name, len(body), body)


@BOTH_LOOPS
@pytest.mark.parametrize("cut", [1, 10, 40, 70])
async def test_requests_arrive_whole_and_in_order(cut: int) -> None:
    """However the bytes are divided, with pipelined requests between them."""
    seen: list[Exchange] = []

    async def handle(exchange: Exchange) -> None:
        seen.append(exchange)
        await exchange.send(demo.whole(exchange.body))

    sent = post(b'{"n":1}') + post(b"", name=b"content-length") + post(b'{"n":2}')
    async with connected(each_request(handle)) as (reader, writer):
        for start in range(0, len(sent), cut):
            writer.write(sent[start : start + cut])
            await asyncio.sleep(0)
        expected = demo.whole(b'{"n":1}') + demo.whole(b"") + demo.whole(b'{"n":2}')
        assert await reader.readexactly(len(expected)) == expected

    assert [(e.method, e.target) for e in seen] == [("POST", "/a?b")] * 3
    assert (seen[0].header("x-one"), seen[0].json) == (["1"], {"n": 1})
    assert seen[0].headers == [("x-one", "1"), ("content-length", "7")]


@BOTH_LOOPS
async def test_handler_without_coroutine_may_write_later() -> None:
    """The benchmarks' upstream paces by timers, without a task for each stream."""

    def handle(exchange: Exchange) -> None:
        write = exchange.connection.write
        write(demo.STREAM_HEAD + demo.chunk(b"one"))
        asyncio.get_running_loop().call_later(0.01, write, demo.chunk(b"two") + demo.CHUNKED_END)

    async with connected(each_request(handle)) as (reader, writer):
        writer.write(post(b"{}") + post(b"{}"))
        text = b""
        while text.count(demo.CHUNKED_END) < 2:
            text += await reader.read(1000)

    assert text.count(b"3\r\none\r\n") == 2
    assert text.count(b"3\r\ntwo\r\n") == 2


@BOTH_LOOPS
async def test_script_learns_that_the_client_is_gone() -> None:
    """Waiting ends, and sending raises."""
    outcome: list[str] = []
    done = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        assert exchange.gone_at is None
        await exchange.until_gone()
        try:
            await exchange.send(b"x")
        except ConnectionResetError:
            outcome.append("reset")
        finally:
            done.set()

    async with connected(each_request(handle)) as (_, writer):
        writer.write(post(b"{}"))
        await writer.drain()
        writer.close()
        await asyncio.wait_for(done.wait(), 5)

    assert outcome == ["reset"]


@BOTH_LOOPS
async def test_reset_is_a_tcp_reset() -> None:
    """The client sees ECONNRESET, not the end of the stream."""

    async def handle(exchange: Exchange) -> None:
        exchange.connection.reset()

    async with connected(each_request(handle)) as (reader, writer):
        writer.write(post(b"{}"))
        with pytest.raises(ConnectionResetError):
            await reader.read()


@BOTH_LOOPS
async def test_unread_bytes_are_bounded() -> None:
    """A script that reads nothing stops its client from sending."""

    async def script(connection: Connection) -> None:
        await connection.read_until(b"\n")
        await connection.closed.wait()

    async with connected(script) as (_, writer):
        writer.write(b"\n" + b"x" * 64 * 1024 * 1024)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)


@BOTH_LOOPS
async def test_large_body_is_read_whole() -> None:
    """Well beyond the bytes that wait for a script."""
    sizes: list[int] = []

    async def handle(exchange: Exchange) -> None:
        sizes.append(len(exchange.body))
        await exchange.send(demo.whole(b"{}"))

    async with connected(each_request(handle)) as (reader, writer):
        writer.write(post(b"x" * 5_000_000))
        await reader.readuntil(b"{}")

    assert sizes == [5_000_000]


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nx: " + b"x" * (demo.MAX_HEAD_BYTES + 1),
        b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (demo.MAX_BODY_BYTES + 1),
    ],
    ids=["head", "body"],
)
async def test_too_large_request_closes_the_connection(sent: bytes) -> None:
    """Nothing is buffered without a bound."""

    async def handle(exchange: Exchange) -> None:
        raise AssertionError(exchange)

    async with connected(each_request(handle)) as (reader, writer):
        writer.write(sent)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_tls_handshake_is_refused_with_an_alert() -> None:
    """A client that expects TLS gets an error of TLS."""
    hellos: list[bool] = []
    server = ScriptedServer(each_request(lambda _: None, lambda: hellos.append(True)))
    port = await server.listen()

    with pytest.raises(ssl.SSLError, match=r"(?i)handshake"):
        await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())

    assert hellos == [True]
    await server.aclose()


async def test_server_speaks_tls() -> None:
    """With a certificate, as the transport's tests need it."""
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)

    async def handle(exchange: Exchange) -> None:
        await exchange.send(demo.whole(b"{}"))

    server = ScriptedServer(each_request(handle))
    port = await server.listen(tls=theirs)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=ours, server_hostname="localhost"
    )
    writer.write(post(b"{}"))

    assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    await server.aclose()


async def test_failed_script_is_reported() -> None:
    """An exception other than a lost connection is a bug of the script."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def handle(exchange: Exchange) -> None:
        raise ValueError(exchange.target)

    async with connected(each_request(handle)) as (reader, writer):
        writer.write(post(b"{}"))
        assert await reader.read() == b""

    assert [str(context["exception"]) for context in reported] == ["/a?b"]


async def test_stopped_listener_refuses_and_keeps_connections() -> None:
    """What was connected before is still served."""
    server = ScriptedServer(each_request(_respond))
    port = await server.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"{}"))
    await reader.readuntil(b"{}")

    server.stop_listening()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"{}"))
    assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    await server.aclose()


async def _respond(exchange: Exchange) -> None:
    await exchange.send(demo.whole(b"{}"))

"""An ordinary httpx2 client over our connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.upstream.client_transport import PooledClientTransport
from gateway.upstream.transport import UpstreamTransport
from tests.upstream_servers import (
    BOTH_LOOPS,
    CHUNKED,
    OK,
    Authority,
    Still,
    Visit,
    authority,
    json_forever,
    serve,
)
from tests.waiting import wait_until

__all__ = ["authority"]
pytestmark = BOTH_LOOPS

MIB = 1024 * 1024


@pytest.fixture
async def transport(authority: Authority) -> AsyncIterator[UpstreamTransport]:
    transport = UpstreamTransport(make_ssl_context=authority.client_context)
    yield transport
    await transport.aclose()


@pytest.fixture
async def client(transport: UpstreamTransport) -> AsyncIterator[httpx2.AsyncClient]:
    pooled = PooledClientTransport(transport, max_connections=2)
    async with httpx2.AsyncClient(transport=pooled, timeout=5.0) as client:
        yield client


@pytest.mark.parametrize("tls", [False, True])
async def test_client_gets_and_posts_over_kept_connections(
    client: httpx2.AsyncClient, transport: UpstreamTransport, authority: Authority, tls: bool
) -> None:
    """Requests of a client work and share our pool."""
    asked: list[bytes] = []

    async def script(visit: Visit) -> None:
        while True:
            asked.append(await visit.request())
            await visit.answer(b'{"ok":true}', headers=b"Content-Type: application/json\r\n")

    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        base = f"http{'s' if tls else ''}://localhost:{upstream.origin.port}"
        got = await client.get(f"{base}/v1/models", params={"limit": "3"})
        posted = await client.post(f"{base}/x", json={"a": 1})

        assert got.json() == posted.json() == {"ok": True}
        assert asked[0].startswith(b"GET /v1/models?limit=3 HTTP/1.1\r\n")
        assert asked[1].endswith(b'\r\n\r\n{"a":1}')
        assert asked[1].lower().count(b"content-length: 7\r\n") == 1
        assert transport.reused_total == 1
        assert len(upstream.visits) == 1


async def test_client_streams_a_request_and_an_answer(client: httpx2.AsyncClient) -> None:
    """A generated request body is sent with its length; an answer is read as it comes."""
    asked: list[bytes] = []
    more = asyncio.Event()

    async def script(visit: Visit) -> None:
        asked.append(await visit.request())
        await visit.say(CHUNKED + b"1\r\na\r\n")
        await more.wait()
        await visit.say(b"1\r\nb\r\n0\r\n\r\n")
        await visit.until_gone()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with serve(script) as upstream:
        url = f"http://127.0.0.1:{upstream.origin.port}/"
        parts: list[bytes] = []
        async with client.stream("POST", url, content=body()) as response:
            async for part in response.aiter_raw():
                parts.append(part)
                more.set()

        assert parts == [b"a", b"b"]
        assert asked[0].endswith(b"\r\n\r\nonetwo")
        assert b"transfer-encoding" not in asked[0].lower()


async def test_client_that_reads_slowly_stops_the_upstream(client: httpx2.AsyncClient) -> None:
    """Between two reads of the client at most a few reads are held."""
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.say(OK + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            await visit.say(b"x" * MIB)
            sent += 1
        await visit.until_gone()

    async with serve(script) as upstream:
        url = f"http://127.0.0.1:{upstream.origin.port}/"
        async with client.stream("GET", url) as response:
            parts = response.aiter_raw()
            size = len(await anext(parts))
            await wait_until(Still(lambda: sent))
            assert sent < 32
            async for part in parts:
                size += len(part)

        assert size == 64 * MIB


async def test_client_that_leaves_a_stream_closes_it(
    client: httpx2.AsyncClient, transport: UpstreamTransport
) -> None:
    """Leaving the block drops the connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED + b"1\r\na\r\n")
        await visit.until_gone()

    async with serve(script) as upstream:
        async with client.stream("GET", f"http://127.0.0.1:{upstream.origin.port}/") as response:
            assert response.status_code == 200

        await asyncio.wait_for(upstream.visits[0].closed.wait(), 1)
        assert transport.open_connections == 0


async def test_client_hears_httpx2s_own_exceptions(client: httpx2.AsyncClient) -> None:
    """Each failure is the exception that httpx2 would raise, chained to ours."""
    scripts = {
        b"": httpx2.ReadError,
        b"SSH-2.0\r\n": httpx2.RemoteProtocolError,
        OK + b"Content-Length: 5\r\n\r\nhe": httpx2.ReadError,
    }
    for sent, expected in scripts.items():

        async def script(visit: Visit, sent: bytes = sent) -> None:
            await visit.request()
            await visit.say(sent)

        async with serve(script) as upstream:
            with pytest.raises(expected) as caught:
                await client.get(f"http://127.0.0.1:{upstream.origin.port}/")
            assert caught.value.__cause__ is not None
    with pytest.raises(httpx2.ConnectError):
        await client.get("http://127.0.0.1:1/")


@pytest.mark.parametrize("began", [b"", CHUNKED, CHUNKED + b"1\r\na\r\n"])
async def test_client_that_waits_too_long_times_out(
    client: httpx2.AsyncClient, transport: UpstreamTransport, began: bytes
) -> None:
    """`read` bounds the wait for the head and for each part of the body."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(began)
        await visit.until_gone()

    async with serve(script) as upstream:
        url = f"http://127.0.0.1:{upstream.origin.port}/"
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(url, timeout=httpx2.Timeout(5.0, read=0.05))

        await asyncio.wait_for(upstream.visits[0].closed.wait(), 1)
        assert transport.open_connections == 0


async def test_full_pool_is_a_pool_timeout(client: httpx2.AsyncClient) -> None:
    """A client that opens more than its connections is refused at once."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED)
        await visit.until_gone()

    async with serve(script) as upstream:
        url = f"http://127.0.0.1:{upstream.origin.port}/"
        async with client.stream("GET", url), client.stream("GET", url):
            with pytest.raises(httpx2.PoolTimeout):
                await client.get(url)


async def test_closed_client_leaves_our_connections_open(transport: UpstreamTransport) -> None:
    """The connections belong to the transport, not to the client."""
    async with serve(json_forever) as upstream:
        url = f"http://127.0.0.1:{upstream.origin.port}/"
        for _ in range(2):
            pooled = PooledClientTransport(transport)
            async with httpx2.AsyncClient(transport=pooled) as client:
                assert (await client.get(url)).status_code == 200

        assert (transport.connect_total, transport.reused_total) == (1, 1)

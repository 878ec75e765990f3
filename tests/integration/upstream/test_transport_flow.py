"""Flow control against real sockets: slow sinks, slow upstreams, early responses, large reads."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from gateway.upstream.http1.connection import SLICE_BYTES
from gateway.upstream.transport import UpstreamTransport
from tests.support.upstream_fakes import RecordingSink, a_request
from tests.support.upstream_servers import (
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
from tests.support.waiting import wait_until

__all__ = ["authority"]
pytestmark = BOTH_LOOPS

MIB = 1024 * 1024
PART = bytes(range(256)) * 1024
SOCKETS_BYTES = 24 * MIB
"""What the two kernel buffers of a loopback connection and TLS may hold."""


@pytest.fixture
async def transport(authority: Authority) -> AsyncIterator[UpstreamTransport]:
    transport = UpstreamTransport(make_ssl_context=authority.client_context)
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("tls", [False, True])
async def test_200_mb_into_a_slow_sink_stay_in_bounds(
    transport: UpstreamTransport, authority: Authority, chunked: bool, tls: bool
) -> None:
    """A paused sink stops the upstream; nothing is lost, and little is held."""
    parts = 800 if not tls else 200
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(CHUNKED if chunked else OK + b"Content-Length: %d\r\n\r\n" % total)
        for _ in range(parts):
            await visit.send(b"%x\r\n%b\r\n" % (len(PART), PART) if chunked else PART)
            sent += len(PART)
        if chunked:
            await visit.send(b"0\r\n\r\n")
        await visit.until_gone()

    total = parts * len(PART)
    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        response = await transport.send(a_request(origin=upstream.origin))
        sink = RecordingSink()
        sink.keep = False
        loop = asyncio.get_running_loop()

        def slow(_: bytes) -> None:
            response.pause()

        sink.on_chunk = slow
        tracemalloc.start()
        try:
            response.start(sink)
            await wait_until(Still(lambda: sent), 20)
            assert sent < SOCKETS_BYTES
            assert sink.size_bytes < MIB

            def hesitant(_: bytes) -> None:
                response.pause()
                loop.call_soon(response.resume)

            sink.on_chunk = hesitant
            response.resume()
            await asyncio.wait_for(sink.ended.wait(), 25)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (sink.size_bytes, sink.end) == (total, "complete")
        assert peak < 8 * MIB
        assert transport.idle_connections == 1


async def test_big_answer_in_one_go_is_pushed_in_reads_of_bounded_size(
    transport: UpstreamTransport,
) -> None:
    """A chunk is never larger than one network read, however much has arrived."""
    sizes: list[int] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"x" * (8 * MIB))

    async with serve(script) as upstream:
        response = await transport.send(a_request(origin=upstream.origin))
        sink = RecordingSink()
        sink.on_chunk = lambda chunk: sizes.append(len(chunk))
        response.start(sink)
        await asyncio.wait_for(sink.ended.wait(), 10)

        assert sum(sizes) == 8 * MIB
        assert max(sizes[1:]) <= 256 * 1024
        assert sizes[0] <= 512 * 1024


@pytest.mark.parametrize("tls", [False, True])
async def test_32_mib_to_a_slow_upstream_are_not_copied(
    transport: UpstreamTransport, authority: Authority, tls: bool
) -> None:
    """A large request is not copied; one slice at a time is at the socket."""
    body = b"0123456789abcdef" * (2 * MIB)
    digest = hashlib.sha256(body).hexdigest()
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.connection.read_until(b"\r\n\r\n")
        await go.wait()
        received = hashlib.sha256()
        left = len(body)
        while left:
            part = await visit.connection.read()
            received.update(part)
            left -= len(part)
        await visit.answer(received.hexdigest().encode())
        await visit.until_gone()

    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        request = a_request(origin=upstream.origin, body=body, head_timeout_s=25)
        tracemalloc.start()
        try:
            task = asyncio.ensure_future(transport.send(request))
            await wait_until(lambda: upstream.visits)
            go.set()
            response = await task
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert await response.read(1000) == digest.encode()
        assert peak < 16 * SLICE_BYTES
        assert transport.idle_connections == 1


@pytest.mark.parametrize("lingers", [True, False])
@pytest.mark.parametrize("size", [32 * MIB, 16 * MIB])
async def test_early_413_is_read_and_the_connection_closed(
    transport: UpstreamTransport, caplog: pytest.LogCaptureFixture, lingers: bool, size: int
) -> None:
    """An early error response is received even if the upstream closes at once."""

    async def script(visit: Visit) -> None:
        await visit.connection.read_until(b"\r\n\r\n")
        await visit.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\nno way")
        if lingers:
            await visit.until_gone()

    async with serve(script) as upstream:
        request = a_request(origin=upstream.origin, body=b"x" * size)
        response = await transport.send(request)

        assert (response.status, await response.read(100)) == (413, b"no way")
        assert transport.open_connections == 0
        await asyncio.wait_for(upstream.visits[0].closed.wait(), 1)
        assert not caplog.records


async def test_cancelled_big_request_stops_sending(transport: UpstreamTransport) -> None:
    """Cancelling while the body is sent closes the socket; the rest is not sent."""

    async def script(visit: Visit) -> None:
        await visit.connection.read_until(b"\r\n\r\n")
        await release.wait()
        await visit.until_gone()

    release = asyncio.Event()
    async with serve(script) as upstream:
        request = a_request(origin=upstream.origin, body=b"x" * (64 * MIB))
        task = asyncio.ensure_future(transport.send(request))
        await wait_until(lambda: upstream.visits)
        task.cancel()
        release.set()

        await asyncio.wait_for(upstream.visits[0].closed.wait(), 2)
        assert transport.open_connections == 0


async def test_many_streams_at_once_get_each_their_own_bytes(
    transport: UpstreamTransport,
) -> None:
    """Fifty streams in parallel, twice over the same connections, do not mix."""

    async def script(visit: Visit) -> None:
        while True:
            asked = await visit.request()
            name = asked.partition(b" HTTP")[0].rpartition(b"/")[2]
            await visit.send(CHUNKED)
            for number in range(20):
                text = b"%b-%d;" % (name, number)
                await visit.send(b"%x\r\n%b\r\n" % (len(text), text))
                await asyncio.sleep(0)
            await visit.send(b"0\r\n\r\n")

    async def one(number: int) -> None:
        request = a_request(origin=upstream.origin, path=f"/{number}")
        body = await (await transport.send(request)).read(MIB)
        assert body == b"".join(b"%d-%d;" % (number, at) for at in range(20))

    async with serve(script) as upstream:
        for _ in range(2):
            await asyncio.gather(*(one(number) for number in range(50)))

        assert transport.reused_total >= 50
        assert transport.open_connections <= 50


async def test_answer_that_waits_unread_is_bounded(transport: UpstreamTransport) -> None:
    """A response that is never started stops its upstream after at most two reads."""
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(OK + b"Content-Length: %d\r\n\r\n" % (400 * len(PART)))
        for _ in range(400):
            await visit.send(PART)
            sent += len(PART)
        await visit.until_gone()

    async with serve(script) as upstream:
        response = await transport.send(a_request(origin=upstream.origin))

        await wait_until(Still(lambda: sent), 20)

        assert sent < SOCKETS_BYTES
        assert len(await response.read(400 * len(PART))) == 400 * len(PART)


async def test_kept_connection_notices_its_end_after_a_paused_stream(
    transport: UpstreamTransport,
) -> None:
    """A stream whose sink paused in its last chunk does not leave a deaf connection behind."""
    async with serve(json_forever) as upstream:
        response = await transport.send(a_request(origin=upstream.origin))
        sink = RecordingSink()
        sink.on_chunk = lambda _: response.pause()
        response.start(sink)
        await wait_until(lambda: sink.chunks)
        assert transport.idle_connections == 1

        upstream.visits[0].connection.close()

        await wait_until(lambda: transport.open_connections == 0)

"""The transport over httpx2: responses, pausing, closing, errors, proxies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.upstream.httpx2 import Httpx2Response
from gateway.upstream.transport import UpstreamTransport
from tests.support.upstream_fakes import RecordingSink, a_request
from tests.support.upstream_servers import (
    BOTH_LOOPS,
    CHUNKED,
    OK,
    Authority,
    Still,
    Upstream,
    Visit,
    authority,
    json_forever,
    serve,
)
from tests.support.waiting import wait_until

__all__ = ["authority"]
pytestmark = BOTH_LOOPS

MIB = 1024 * 1024


@pytest.fixture
async def transport(authority: Authority) -> AsyncIterator[UpstreamTransport]:
    transport = UpstreamTransport(make_ssl_context=authority.client_context)
    yield transport
    await transport.aclose()


async def ask(transport: UpstreamTransport, upstream: Upstream, **changes: Any) -> Httpx2Response:
    """Send one request through httpx2 and return its response."""
    origin = upstream.with_origin(transport="httpx2", **changes)
    response = await transport.send(a_request(origin=origin))
    assert isinstance(response, Httpx2Response)
    return response


async def failure(transport: UpstreamTransport, origin: Origin, **asked: Any) -> GatewayError:
    """Send one request that fails, and return how."""
    with pytest.raises(GatewayError) as caught:
        await transport.send(a_request(origin=origin, **asked))
    return caught.value


@pytest.mark.parametrize("tls", [False, True])
async def test_answer_and_request_are_what_was_said(
    transport: UpstreamTransport, authority: Authority, tls: bool
) -> None:
    """Head and body pass unchanged both ways, over plain TCP and TLS."""
    asked: list[bytes] = []

    async def script(visit: Visit) -> None:
        asked.append(await visit.request())
        await visit.answer(b"{}", headers=b"X-One: A\r\nSet-Cookie: a\r\nset-cookie: b\r\n")

    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        response = await ask(transport, upstream)

        assert response.status == 200
        assert response.headers == [
            (b"content-length", b"2"),
            (b"x-one", b"A"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"b"),
        ]
        assert await response.read(2) == b"{}"
        assert asked[0].endswith(b"\r\n\r\n{}")
        assert b"POST /v1/x HTTP/1.1\r\n" in asked[0]
        assert asked[0].lower().count(b"content-length") == 1
        assert asked[0].lower().count(b"host:") == 1
        assert transport.open_connections == 0


async def test_stream_comes_as_it_is_sent(transport: UpstreamTransport) -> None:
    """Each part reaches the sink before the next one is sent."""
    more = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"1\r\na\r\n")
        await more.wait()
        await visit.send(b"1\r\nb\r\n0\r\n\r\n")

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()
        response.start(sink)
        await wait_until(lambda: sink.chunks == [b"a"])
        more.set()
        await asyncio.wait_for(sink.ended.wait(), 2)

        assert (sink.body, sink.end) == (b"ab", "complete")


async def test_paused_sink_hears_nothing_and_stops_the_upstream(
    transport: UpstreamTransport,
) -> None:
    """Between `pause` and `resume` nothing comes, not even the end; then everything does."""
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(OK + b"Content-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            await visit.send(b"x" * MIB)
            sent += 1
        await visit.until_gone()

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()
        sink.keep = False
        sink.on_chunk = lambda _: response.pause()
        response.start(sink)
        await wait_until(lambda: sink.size_bytes)
        first = sink.size_bytes
        await wait_until(Still(lambda: sent))
        assert sink.size_bytes == first
        assert sent < 32

        sink.on_chunk = None
        response.resume()
        await asyncio.wait_for(sink.ended.wait(), 10)

        assert (sink.size_bytes, sink.end) == (64 * MIB, "complete")


async def test_pause_in_the_last_chunk_holds_the_end_back(transport: UpstreamTransport) -> None:
    """The end is reported after `resume`."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()
        sink.on_chunk = lambda _: response.pause()
        response.start(sink)
        await wait_until(lambda: sink.chunks)
        await asyncio.wait_for(upstream.visits[0].closed.wait(), 2)
        assert sink.end == ""
        response.resume()
        assert sink.end == ""
        await asyncio.wait_for(sink.ended.wait(), 2)

        assert sink.end == "complete"


@pytest.mark.parametrize("when", ["at once", "started", "in a chunk", "paused"])
async def test_closed_response_is_seen_upstream_within_100_ms(
    transport: UpstreamTransport, when: str
) -> None:
    """Closing drops the stream at any point; the sink is not called again."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"1\r\na\r\n")
        await visit.until_gone()

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()
        if when == "in a chunk":
            sink.on_chunk = lambda _: response.close()
        if when != "at once":
            response.start(sink)
        if when not in ("at once", "started"):
            await wait_until(lambda: sink.chunks)
        if when == "paused":
            response.pause()
        began = time.monotonic()
        response.close()
        response.close()
        await asyncio.wait_for(upstream.visits[0].closed.wait(), 2)

        assert time.monotonic() - began < 0.1
        assert sink.end == ""
        await wait_until(lambda: transport.open_connections == 0)


async def test_cancelled_send_is_seen_upstream_within_100_ms(
    transport: UpstreamTransport,
) -> None:
    """Cancelling the wait for a head closes the connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.until_gone()

    async with serve(script) as upstream:
        task = asyncio.ensure_future(ask(transport, upstream))
        await wait_until(lambda: upstream.visits)
        began = time.monotonic()
        task.cancel()
        await asyncio.wait_for(upstream.visits[0].closed.wait(), 2)

        assert time.monotonic() - began < 0.1
        assert transport.open_connections == 0


async def test_body_that_breaks_off_fails_the_sink(transport: UpstreamTransport) -> None:
    """A short body gives its bytes, then the failure."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(OK + b"Content-Length: 5\r\n\r\nhe")

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()
        response.start(sink)
        await asyncio.wait_for(sink.ended.wait(), 2)

        assert (sink.body, sink.end) == (b"he", "upstream_broken")


async def test_read_beyond_its_limit_is_malformed(transport: UpstreamTransport) -> None:
    """A body over the limit is refused and closed."""
    async with serve(json_forever) as upstream:
        response = await ask(transport, upstream)

        with pytest.raises(GatewayError) as caught:
            await response.read(3)

        assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED


async def test_closed_response_starts_nothing_and_reads_nothing(
    transport: UpstreamTransport,
) -> None:
    """After `close`, `start` is silent and `read` raises."""
    async with serve(json_forever) as upstream:
        response = await ask(transport, upstream)
        sink = RecordingSink()

        response.close()
        response.start(sink)
        with pytest.raises(GatewayError) as caught:
            await response.read(100)
        await wait_until(lambda: transport.open_connections == 0)

        assert caught.value.kind is ErrorKind.UPSTREAM_BROKEN
        assert (sink.chunks, sink.end) == ([], "")


async def test_failures_before_the_head_have_their_kinds(
    transport: UpstreamTransport, authority: Authority
) -> None:
    """Refused, untrusted, silent, broken: each is what it is with our own connections."""

    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.until_gone()

    async def broken(visit: Visit) -> None:
        await visit.request()

    closed = Origin(host="127.0.0.1", port=1, tls=False, transport="httpx2")
    assert (await failure(transport, closed)).kind is ErrorKind.UPSTREAM_CONNECT
    async with serve(silent) as upstream:
        origin = upstream.with_origin(transport="httpx2")
        error = await failure(transport, origin, head_timeout_s=0.05, connect_s=0.05)
        assert error.kind is ErrorKind.UPSTREAM_TIMEOUT
    async with serve(broken) as upstream:
        origin = upstream.with_origin(transport="httpx2")
        assert (await failure(transport, origin)).kind is ErrorKind.UPSTREAM_BROKEN
    context = authority.server_context("other.test")
    async with serve(json_forever, tls=context, host="localhost") as upstream:
        origin = upstream.with_origin(transport="httpx2")
        assert (await failure(transport, origin)).kind is ErrorKind.UPSTREAM_CONNECT
    assert transport.open_connections == 0


async def test_full_origin_is_overloaded(transport: UpstreamTransport) -> None:
    """`max_connections` responses may be open; one more is refused at once."""
    async with serve(json_forever) as upstream:
        held = await ask(transport, upstream, max_connections=1)
        origin = upstream.with_origin(transport="httpx2", max_connections=1)

        error = await failure(transport, origin)
        assert error.kind is ErrorKind.OVERLOADED

        await held.read(100)
        assert await (await ask(transport, upstream, max_connections=1)).read(100)


async def test_closing_the_transport_breaks_answers_off(transport: UpstreamTransport) -> None:
    """`aclose` fails the bodies under way and leaves no connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"1\r\na\r\n")
        await visit.until_gone()

    async with serve(script) as upstream:
        response = await ask(transport, upstream)
        unread = await ask(transport, upstream)
        sink = RecordingSink()
        response.start(sink)
        await wait_until(lambda: sink.chunks)

        await transport.aclose()

        assert unread.status == 200
        assert sink.end == "upstream_broken"
        assert transport.open_connections == 0
        for visit in upstream.visits:
            await asyncio.wait_for(visit.closed.wait(), 1)


@pytest.mark.parametrize("named", ["httpx2", "http1"])
async def test_proxy_is_used_whatever_the_transport_is_called(
    transport: UpstreamTransport, named: str
) -> None:
    """An origin with a proxy is never reached around it."""
    async with serve(json_forever) as proxy:
        origin = Origin(
            host="upstream.test",
            port=8080,
            tls=False,
            transport=named,
            proxy=f"http://user:secret@127.0.0.1:{proxy.origin.port}",
        )
        seen = asyncio.ensure_future(transport.send(a_request(origin=origin)))
        response = await seen

        assert await response.read(100) == b'{"ok":true}'
        assert len(proxy.visits) == 1


async def test_refusing_proxy_is_a_connect_error_that_tells_no_password(
    transport: UpstreamTransport,
) -> None:
    """A proxy that opens no tunnel means that nothing was sent; its password stays secret."""

    async def script(visit: Visit) -> None:
        await visit.connection.read_until(b"\r\n\r\n")
        await visit.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await visit.until_gone()

    async with serve(script) as proxy:
        url = f"http://user:secret@127.0.0.1:{proxy.origin.port}"
        origin = Origin(host="upstream.test", port=443, tls=True, transport="httpx2", proxy=url)

        error = await failure(transport, origin)

        assert error.kind is ErrorKind.UPSTREAM_CONNECT
        assert "secret" not in f"{error.message} {error.detail}"

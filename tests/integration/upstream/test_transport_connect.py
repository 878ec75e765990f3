"""Opening and closing real connections: who sees the end when, refusals, time-outs, TLS."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.upstream.pool import OriginPool
from gateway.upstream.transport import UpstreamTransport
from tests.support.upstream_calls import failure, fetch, transport
from tests.support.upstream_fakes import RecordingSink, a_request
from tests.support.upstream_servers import (
    BOTH_LOOPS,
    CHUNKED,
    Authority,
    Visit,
    authority,
    json_forever,
    serve,
)
from tests.support.waiting import wait_until

__all__ = ["authority", "transport"]
pytestmark = BOTH_LOOPS


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Closing.


async def closes_within_100_ms(visit: Visit) -> bool:
    """Whether the upstream sees the end in time."""
    began = time.monotonic()
    await asyncio.wait_for(visit.closed.wait(), 5)
    return time.monotonic() - began < 0.1


@pytest.mark.parametrize("tls", [False, True])
async def test_cancelled_send_is_seen_upstream_within_100_ms(
    transport: UpstreamTransport, authority: Authority, tls: bool
) -> None:
    """Cancelling the wait for a head closes the connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.until_gone()

    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        task = asyncio.ensure_future(transport.send(a_request(origin=upstream.origin)))
        await wait_until(lambda: upstream.visits)
        task.cancel()

        assert await closes_within_100_ms(upstream.visits[0])
        assert task.cancelled()
        assert transport.open_connections == 0


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("paused", [False, True])
async def test_closed_response_is_seen_upstream_within_100_ms(
    transport: UpstreamTransport, authority: Authority, tls: bool, paused: bool
) -> None:
    """A stream that its client left ends upstream at once, read or paused."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"1\r\na\r\n")
        await visit.until_gone()

    context = authority.server_context("localhost") if tls else None
    async with serve(script, tls=context, host="localhost") as upstream:
        response = await transport.send(a_request(origin=upstream.origin))
        sink = RecordingSink()
        response.start(sink)
        await wait_until(lambda: sink.chunks)
        if paused:
            response.pause()
        response.close()

        assert await closes_within_100_ms(upstream.visits[0])
        assert transport.open_connections == 0
        assert sink.end == ""


async def test_closing_the_transport_breaks_answers_off_and_refuses_more(
    transport: UpstreamTransport,
) -> None:
    """`aclose` leaves no connection: bodies fail, waiting heads fail, later sends are refused."""

    async def script(visit: Visit) -> None:
        asked = await visit.request()
        if b"/body" in asked:
            await visit.send(CHUNKED)
        elif b"/idle" in asked:
            await visit.answer(b"{}")
        await visit.until_gone()

    async with serve(script) as upstream:
        body = await transport.send(a_request(origin=upstream.origin, path="/body"))
        sink = RecordingSink()
        body.start(sink)
        head = asyncio.ensure_future(
            transport.send(a_request(origin=upstream.origin, path="/head"))
        )
        await transport.send(a_request(origin=upstream.origin, path="/idle"))
        await wait_until(lambda: len(upstream.visits) == 3)
        assert transport.open_connections == 3

        await transport.aclose()

        assert sink.end == "upstream_broken"
        with pytest.raises(GatewayError):
            await head
        assert transport.open_connections == 0
        assert (await failure(transport, upstream.origin)).kind is ErrorKind.OVERLOADED
        fresh = upstream.with_origin(keepalive_s=1.0)
        assert (await failure(transport, fresh)).kind is ErrorKind.OVERLOADED
        for visit in upstream.visits:
            await asyncio.wait_for(visit.closed.wait(), 1)


# Connecting.


@pytest.mark.parametrize("host", ["127.0.0.1", "does-not-exist.invalid", "a" * 70 + ".test"])
async def test_upstream_that_cannot_be_reached_is_a_connect_error(
    transport: UpstreamTransport, host: str
) -> None:
    """A refused port, a name without address and a name that is none send nothing."""
    error = await failure(transport, Origin(host=host, port=free_port(), tls=False))

    assert error.kind is ErrorKind.UPSTREAM_CONNECT
    assert error.__cause__ is not None
    assert host in (error.detail or "")
    assert host not in error.message
    assert transport.open_connections == 0


async def test_connecting_that_takes_too_long_is_a_connect_error(
    transport: UpstreamTransport,
) -> None:
    """The connect clock includes the TLS handshake; the socket is closed."""

    async def script(visit: Visit) -> None:
        await visit.until_gone()

    async with serve(script, host="localhost") as upstream:
        error = await failure(transport, upstream.with_origin(tls=True), connect_s=0.1)

        assert error.kind is ErrorKind.UPSTREAM_CONNECT
        assert isinstance(error.__cause__, TimeoutError)
        assert await closes_within_100_ms(upstream.visits[0])
        assert transport.open_connections == 0


async def test_cancelled_connecting_leaves_no_socket(transport: UpstreamTransport) -> None:
    """Cancelling during the handshake closes the socket."""

    async def script(visit: Visit) -> None:
        await visit.until_gone()

    async with serve(script, host="localhost") as upstream:
        origin = upstream.with_origin(tls=True)
        task = asyncio.ensure_future(transport.send(a_request(origin=origin)))
        await wait_until(lambda: upstream.visits)
        task.cancel()

        assert await closes_within_100_ms(upstream.visits[0])
        assert transport.open_connections == 0


async def test_small_writes_are_not_held_back(transport: UpstreamTransport) -> None:
    """Connections are opened with TCP_NODELAY."""
    async with serve(json_forever) as upstream:
        await fetch(transport, upstream)
        pool = next(iter(transport._origins.values()))
        assert isinstance(pool, OriginPool)
        (connection,) = pool._connections
        opened = connection._transport
        assert opened is not None

        plain = opened.get_extra_info("socket")
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# TLS.


async def test_tls_upstream_with_a_trusted_certificate_is_used(
    transport: UpstreamTransport, authority: Authority
) -> None:
    """Requests over TLS work, reuse their connection, and agree on HTTP/1.1."""
    chosen: list[str | None] = []

    async def script(visit: Visit) -> None:
        chosen.append(
            visit.connection.transport.get_extra_info("ssl_object").selected_alpn_protocol()
        )
        await json_forever(visit)

    context = authority.server_context("localhost")
    async with serve(script, tls=context, host="localhost") as upstream:
        assert await fetch(transport, upstream) == b'{"ok":true}'
        assert await fetch(transport, upstream) == b'{"ok":true}'

        assert chosen == ["http/1.1"]
        assert transport.reused_total == 1


async def test_tls_upstream_of_an_unknown_authority_is_refused(authority: Authority) -> None:
    """Without the test's authority the certificate is not trusted: nothing is sent."""
    transport = UpstreamTransport()

    context = authority.server_context("localhost")
    async with serve(json_forever, tls=context, host="localhost") as upstream:
        error = await failure(transport, upstream.origin)

        assert error.kind is ErrorKind.UPSTREAM_CONNECT
        assert "SSLCertVerificationError" in (error.detail or "")
    await transport.aclose()


async def test_tls_upstream_of_another_name_is_refused(
    transport: UpstreamTransport, authority: Authority
) -> None:
    """A trusted certificate for another host is not enough."""
    context = authority.server_context("other.test")
    async with serve(json_forever, tls=context, host="localhost") as upstream:
        error = await failure(transport, upstream.origin)

        assert error.kind is ErrorKind.UPSTREAM_CONNECT


async def test_tls_to_an_upstream_that_speaks_none_is_a_connect_error(
    transport: UpstreamTransport,
) -> None:
    """A plain server on a TLS origin is a connect error."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await visit.until_gone()

    async with serve(script, host="localhost") as upstream:
        error = await failure(transport, upstream.with_origin(tls=True))

        assert error.kind is ErrorKind.UPSTREAM_CONNECT

"""The pool against real sockets: reuse, limits, expiry, the one retry, closing, TLS."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from gateway.errors import ErrorKind
from gateway.upstream.pool import OriginPool
from gateway.upstream.transport import UpstreamTransport
from tests.support.upstream_calls import failure, fetch, transport
from tests.support.upstream_servers import (
    BOTH_LOOPS,
    OK,
    Visit,
    authority,
    json_forever,
    serve,
)
from tests.support.waiting import wait_until

__all__ = ["authority", "transport"]
pytestmark = BOTH_LOOPS


# Reuse.


async def test_loop_under_test_is_the_one_asked_for(request: pytest.FixtureRequest) -> None:
    """The tests run on the event loop that the parameter names."""
    on_uvloop = isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert on_uvloop == ("uvloop" in request.node.name)


async def test_connection_is_kept_for_the_next_request(transport: UpstreamTransport) -> None:
    """Requests one after another share a connection, and the counters say so."""
    async with serve(json_forever) as upstream:
        for _ in range(5):
            assert await fetch(transport, upstream) == b'{"ok":true}'

        assert len(upstream.visits) == 1
        assert (transport.connect_total, transport.reused_total) == (1, 4)
        assert (transport.open_connections, transport.idle_connections) == (1, 1)


async def test_connection_used_last_is_reused_first(transport: UpstreamTransport) -> None:
    """After a burst the load goes over one connection, so that the others can expire."""
    served: list[int] = []

    async def script(visit: Visit) -> None:
        number = len(upstream.visits)
        while True:
            await visit.request()
            served.append(number)
            await visit.answer(b"%d" % number)

    async with serve(script) as upstream:
        await asyncio.gather(*(fetch(transport, upstream) for _ in range(4)))
        last = [await fetch(transport, upstream) for _ in range(4)]

        assert len(set(last)) == 1
        assert len(upstream.visits) == 4


async def test_origins_do_not_share_connections(transport: UpstreamTransport) -> None:
    """The whole origin is the key of a pool."""
    async with serve(json_forever) as upstream:
        await fetch(transport, upstream)
        await fetch(transport, upstream, keepalive_s=7.0)

        assert len(upstream.visits) == 2


async def test_idle_connections_expire(transport: UpstreamTransport) -> None:
    """After `keepalive_s` without a request connections are closed, all of them."""
    async with serve(json_forever) as upstream:
        await asyncio.gather(*(fetch(transport, upstream, keepalive_s=0.05) for _ in range(3)))
        assert transport.open_connections == 3

        await wait_until(lambda: transport.open_connections == 0)

        for visit in upstream.visits:
            await asyncio.wait_for(visit.closed.wait(), 1)


async def test_upstreams_shorter_idle_time_is_respected(transport: UpstreamTransport) -> None:
    """`keep-alive: timeout=1` ends an idle connection long before our own minute."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.answer(b"{}", headers=b"Keep-Alive: timeout=1, max=9\r\n")

    async with serve(script) as upstream:
        began = time.monotonic()
        await fetch(transport, upstream)
        assert transport.idle_connections == 1

        await wait_until(lambda: transport.open_connections == 0)

        assert 0.7 < time.monotonic() - began < 5.0


async def test_connection_past_its_time_is_not_taken(transport: UpstreamTransport) -> None:
    """A loop that was late to expire a connection does not use it either."""
    async with serve(json_forever) as upstream:
        await fetch(transport, upstream)
        pool = next(iter(transport._origins.values()))
        assert isinstance(pool, OriginPool)
        for connection in pool._idle:
            connection.idle_until = 0.0

        await fetch(transport, upstream)

        assert len(upstream.visits) == 2
        assert transport.reused_total == 0
        assert transport.open_connections == 1


async def test_expiry_takes_only_what_is_due(transport: UpstreamTransport) -> None:
    """Of two idle connections the one past its time goes, the other stays and goes later."""
    async with serve(json_forever) as upstream:
        await asyncio.gather(*(fetch(transport, upstream, keepalive_s=0.3) for _ in range(2)))
        pool = next(iter(transport._origins.values()))
        assert isinstance(pool, OriginPool)
        next(iter(pool._idle)).idle_until = 0.0

        pool._sweep()
        assert transport.open_connections == 1

        await wait_until(lambda: transport.open_connections == 0)


async def test_pool_without_keep_alive_keeps_nothing(transport: UpstreamTransport) -> None:
    """`keepalive_s` of 0 means one connection per request."""
    async with serve(json_forever) as upstream:
        for _ in range(2):
            await fetch(transport, upstream, keepalive_s=0.0)
            assert transport.open_connections == 0

        assert len(upstream.visits) == 2


async def test_idle_connection_closed_by_the_upstream_is_forgotten(
    transport: UpstreamTransport,
) -> None:
    """The end of an idle connection is noticed at once, without a request."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")

    async with serve(script) as upstream:
        await fetch(transport, upstream)

        await wait_until(lambda: transport.open_connections == 0)

        await fetch(transport, upstream)
        assert transport.reused_total == 0


async def test_idle_connection_that_speaks_unasked_is_dropped(
    transport: UpstreamTransport,
) -> None:
    """A 408 on an idle connection is not the response of the next request."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")
        await visit.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await visit.until_gone()

    async with serve(script) as upstream:
        assert await fetch(transport, upstream) == b"{}"

        await wait_until(lambda: transport.open_connections == 0)

        assert await fetch(transport, upstream) == b"{}"


async def test_full_pool_is_overloaded_until_a_connection_is_free(
    transport: UpstreamTransport,
) -> None:
    """`max_connections` is refused at once with a time to retry; a freed one is used again."""
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await go.wait()
            await visit.answer(b"{}")

    async with serve(script) as upstream:
        origin = upstream.with_origin(max_connections=2)
        waiting = [asyncio.ensure_future(fetch(transport, upstream, max_connections=2))
                   for _ in range(2)]  # fmt: skip
        await wait_until(lambda: len(upstream.visits) == 2)

        error = await failure(transport, origin)
        assert error.kind is ErrorKind.OVERLOADED
        assert error.retry_after_s == 1.0
        go.set()
        await asyncio.gather(*waiting)
        assert await fetch(transport, upstream, max_connections=2) == b"{}"
        assert len(upstream.visits) == 2


# The one retry.


async def test_reused_connection_that_died_is_replaced_once(transport: UpstreamTransport) -> None:
    """A request that met a dying kept connection is sent again on a fresh one, unnoticed."""
    seen: list[int] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        seen.append(len(upstream.visits))
        await visit.answer(b"{}")
        await visit.request()
        seen.append(len(upstream.visits))

    async with serve(script) as upstream:
        await fetch(transport, upstream)
        assert await fetch(transport, upstream) == b"{}"

        assert seen == [1, 1, 2]


async def test_second_death_is_not_repeated(transport: UpstreamTransport) -> None:
    """When the fresh connection dies too, the request is given up: it was sent twice, no more."""
    seen: list[int] = []

    async def script(visit: Visit) -> None:
        number = len(upstream.visits)
        await visit.request()
        seen.append(number)
        if number == 1:
            await visit.answer(b"{}")
            await visit.request()
            seen.append(number)

    async with serve(script) as upstream:
        await fetch(transport, upstream)
        error = await failure(transport, upstream.origin)

        assert error.kind is ErrorKind.UPSTREAM_BROKEN
        assert seen == [1, 1, 2]


async def test_fresh_connection_that_dies_is_not_retried(transport: UpstreamTransport) -> None:
    """A request may have been processed: only the pipeline decides to retry it."""

    async def script(visit: Visit) -> None:
        await visit.request()

    async with serve(script) as upstream:
        error = await failure(transport, upstream.origin)

        assert error.kind is ErrorKind.UPSTREAM_BROKEN
        assert len(upstream.visits) == 1


@pytest.mark.parametrize("began", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_reused_connection_that_died_in_its_answer_is_not_retried(
    transport: UpstreamTransport, began: bytes
) -> None:
    """One byte of a response proves that the request arrived."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")
        await visit.request()
        await visit.send(began)

    async with serve(script) as upstream:
        await fetch(transport, upstream)
        error = await failure(transport, upstream.origin)

        assert error.kind is ErrorKind.UPSTREAM_BROKEN
        assert len(upstream.visits) == 1


async def test_reused_connection_that_is_silent_times_out(transport: UpstreamTransport) -> None:
    """A timeout on a reused connection is not retried like a closed idle connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")
        await visit.until_gone()

    async with serve(script) as upstream:
        await fetch(transport, upstream)
        error = await failure(transport, upstream.origin, head_timeout_s=0.05)

        assert error.kind is ErrorKind.UPSTREAM_TIMEOUT
        assert len(upstream.visits) == 1
        assert transport.open_connections == 0


@pytest.mark.parametrize(
    "unfit",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n\r\n{}}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_connection_that_cannot_serve_again_is_not_kept(
    transport: UpstreamTransport, unfit: bytes
) -> None:
    """`close`, bytes after the body and HTTP/1.0 end a connection with its response."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(unfit)
        await visit.until_gone()

    async with serve(script) as upstream:
        assert await fetch(transport, upstream) == b"{}"
        assert await fetch(transport, upstream) == b"{}"

        assert len(upstream.visits) == 2
        await wait_until(upstream.visits[0].closed.is_set)

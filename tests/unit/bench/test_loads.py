"""The loads against a real server: what they count, and what they count as failed."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from bench.harness import loads
from bench.harness.loads import NOTHING, PacedLoad, churn, closed
from bench.harness.measure import Meter
from bench.harness.requests import Payload, agent_body, chat_body, numbered, post, unique_body
from bench.harness.scenarios import chosen
from bench.harness.systems import System
from bench.upstream import respond
from gateway.demo.server import STREAM_HEAD, Exchange, ScriptedServer, each_request, whole
from tests.support.gateway_process import free_port

SHORT = Payload(post("/v1/chat/completions", chat_body("short"), "k"))


async def test_closed_loop_keeps_every_connection_busy() -> None:
    """Requests follow each other until the time is over, and the last ones are waited for."""
    server = ScriptedServer(each_request(respond))
    port = await server.listen()

    seen = await closed(port, SHORT, 3, 0.2)
    await server.aclose()

    assert seen.requests > 6
    assert seen.failures == 0
    assert len(seen.ttft_s) == len(seen.whole_s) == seen.requests
    assert seen.seconds >= 0.2


async def test_closed_loop_counts_refusals_and_broken_connections() -> None:
    """A refusal is a failure, and so is a connection that ends without a response."""
    left = 5

    def refuse(exchange: Exchange) -> None:
        nonlocal left
        left -= 1
        if left:
            exchange.connection.write(whole(b"{}", 503))
        else:
            exchange.connection.abort()

    server = ScriptedServer(each_request(refuse))
    port = await server.listen()

    seen = await closed(port, SHORT, 1, 30)
    await server.aclose()

    assert seen.requests == 4
    assert seen.failed == {"status 503": 4, "connection closed before a response": 1}


async def test_response_that_never_ends_is_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted once, although its connection is closed after it."""
    monkeypatch.setattr(loads, "END_S", 0.1)
    server = ScriptedServer(each_request(lambda exchange: exchange.connection.write(b"HTTP/1.1 ")))
    port = await server.listen()

    seen = await closed(port, SHORT, 2, 0.1)
    await asyncio.sleep(0.05)
    await server.aclose()

    assert (seen.requests, seen.failures) == (0, 2)
    assert seen.failed == {NOTHING: 2}


async def test_responses_that_come_one_by_one_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow system has as long as it needs, while something comes; a silent one has not."""
    monkeypatch.setattr(loads, "END_S", 1.0)
    loop, numbers = asyncio.get_running_loop(), itertools.count(1)

    def later(exchange: Exchange) -> None:
        if (number := next(numbers)) <= 5:
            loop.call_later(0.3 * number, exchange.connection.write, STREAM_HEAD + b"data: 1\n\n")

    server = ScriptedServer(each_request(later))
    port = await server.listen()
    load = PacedLoad(port, SHORT, 6, 0.0)

    await load.open()
    load.close()
    await server.aclose()

    assert load.seen.failed == {NOTHING: 1}
    assert len(load.seen.ttft_s) == 5


async def failures_of_two_streams(script: Callable[[Exchange], Awaitable[None]]) -> Counter[str]:
    """Return how two streams at a pace failed that a server handles so."""
    server = ScriptedServer(each_request(script))
    load = PacedLoad(await server.listen(), SHORT, 2, 0.0)
    await load.open()
    await load.measure(0.1)
    load.close()
    await server.aclose()
    return load.seen.failed


async def test_refused_streams_are_named_by_status_and_code() -> None:
    """Once each, although their connections are closed after it; others go on."""
    body = b'{"error":{"type":"overloaded_error","code":"gateway_overloaded"}}'

    async def refuse(exchange: Exchange) -> None:
        await exchange.send(whole(body, 503))
        exchange.close()

    assert await failures_of_two_streams(refuse) == {"status 503 gateway_overloaded": 2}


async def test_streams_that_cannot_connect_are_counted() -> None:
    """The others are opened all the same."""
    load = PacedLoad(free_port(), SHORT, 3, 0.0)

    await load.open()

    assert load.seen.failed == {"not connected: ConnectionRefusedError": 3}


async def test_churn_opens_a_connection_for_each_request() -> None:
    """No connection has a second request."""
    requests: dict[object, int] = {}

    def count(exchange: Exchange) -> None:
        requests[exchange.connection] = requests.get(exchange.connection, 0) + 1
        respond(exchange)

    server = ScriptedServer(each_request(count))
    port = await server.listen()

    seen = await churn(port, SHORT, 2, 0.2)
    await server.aclose()

    assert seen.requests == len(requests) > 2
    assert set(requests.values()) == {1}
    assert seen.failures == 0


async def test_paced_streams_are_counted_while_they_are_measured() -> None:
    """Events and gaps of the window are those that the upstream paces."""
    server = ScriptedServer(each_request(respond))
    port = await server.listen()
    body = chat_body("paced-100000-20", stream=True)
    load = PacedLoad(port, Payload(post("/v1/chat/completions", body, "k")), 4, 0.1)

    await load.open()
    await load.measure(0.6)
    load.close()
    await server.aclose()

    seen = load.seen
    assert (seen.requests, seen.failures, len(seen.ttft_s)) == (4, 0, 4)
    assert seen.events >= len(seen.gaps_s) > 4
    # The gaps of each stream cover the window, but for the last one, which has not ended.
    assert sum(seen.gaps_s) == pytest.approx(4 * seen.seconds, abs=4 * max(seen.gaps_s))


async def test_event_cut_between_two_reads_counts_once() -> None:
    """An event's end may arrive in two parts."""
    sent = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"data: 1\n", b"\n", b"data: 2\n\ndata: 3\n", b"\ndata: 4\n\n", b"data: 5"):
            await exchange.send(b"" + part)
            await asyncio.sleep(0.05)
        sent.set()

    server = ScriptedServer(each_request(script))
    port = await server.listen()
    load = PacedLoad(port, SHORT, 1, 0.0)
    load.measuring = True

    await load.open()
    await sent.wait()
    load.close()
    await server.aclose()

    assert load.seen.events == 4


async def test_stream_that_ends_while_it_is_held_is_a_failure() -> None:
    """A system that cuts streams is not measured as if it held them."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ndata: 1\n\n")
        exchange.connection.abort()

    assert await failures_of_two_streams(script) == {"connection closed in a response": 2}


def test_numbered_requests_differ_and_keep_their_length() -> None:
    """A cache has nothing to serve, and the length in the head stays right."""
    payload = numbered(post("/v1/messages/count_tokens", unique_body("m", 100), "k"))

    first, second = payload.next(), payload.next()

    assert first != second
    assert len(first) == len(second)
    head, _, body = first.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


def test_agents_body_is_as_large_as_asked() -> None:
    """It has tools, a system prompt and tool results."""
    body = agent_body("m", 300_000)

    size = len(post("/v1/messages", body, "k"))
    assert 300_000 <= size < 310_000
    assert {"tools", "system", "messages", "stream"} <= set(body)


def test_meter_measures_requests_of_the_upstream_itself() -> None:
    """`direct` has latencies and no CPU."""
    (scenario,) = chosen(["short"])
    loop = asyncio.new_event_loop()
    server = ScriptedServer(each_request(respond))
    port = loop.run_until_complete(server.listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        record = Meter(0.2).measure(0, scenario, System("direct", port))
    finally:
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    assert record.requests == record.units > 0
    assert record.failures == 0
    assert record.whole_us is None
    assert record.latency_ms["p50"] > 0

"""A client that leaves or does not read: upstream closed, memory bounded, call recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bodies import ANTHROPIC, END, FINISH, MORE, OPENAI, PATHS, START, request
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import SSE, Exchange, Script, Slot, stream
from tests.support.service import Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

FAST_S = 0.1
"""What is promised between a client's disconnect and the end of the upstream's connection."""
ALLOWED_S = 1.0
"""What a busy machine may make of it."""
MIB = 1024 * 1024


async def silent(exchange: Exchange) -> None:
    """Never respond."""
    await exchange.until_gone()


async def endless(exchange: Exchange) -> None:
    """Stream without end, 20 events a second."""
    await exchange.send(SSE + b"\r\n")
    wire = "anthropic" if exchange.target.endswith("/messages") else "openai"
    await exchange.chunk(START[wire])
    while True:
        await exchange.chunk(MORE[wire])
        await asyncio.sleep(0.05)


SCRIPTS: dict[str, tuple[Script, bool]] = {
    "before the head": (silent, True),
    "before the head of a whole answer": (silent, False),
    "while the upstream is silent": (stream(START["openai"], end="hang"), True),
    "while it streams": (endless, True),
}


@pytest.mark.parametrize("moment", SCRIPTS)
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("path", "wire"), [(OPENAI, "openai"), (ANTHROPIC, "openai")])
def test_upstream_is_let_go_when_the_client_leaves(
    gateway: Service,
    upstream: Slot,
    key: Key,
    moment: str,
    how: str,
    path: str,
    wire: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Its connection closes at once, and the call is recorded as cancelled."""
    script, streamed = SCRIPTS[moment]
    upstream.plays(script)
    label = f'"deployment":"{upstream.name}/'
    before = set(lines_with(gateway, label))  # a slot is used by one test after the other
    connection = Connection(gateway.port)
    body = request(path, upstream.model(wire), stream=streamed)
    connection.send(render("POST", path, body, x_api_key=key.raw))
    if "head" not in moment:
        connection.read_head()
        connection.read_chunk()
    wait_until_sync(lambda: upstream.exchanges)

    left_at = time.monotonic()
    connection.close() if how == "close" else connection.reset()

    took_s = let_go_at(upstream.exchanges[0]) - left_at
    record_property("let_go_after_ms", round(took_s * 1000, 1))
    print(f"let go after {took_s * 1000:.1f} ms")
    assert took_s < ALLOWED_S
    wait_until_sync(lambda: cancelled(set(lines_with(gateway, label)) - before))


def cancelled(lines: set[str]) -> list[str]:
    """Return the log lines of calls whose client disconnected."""
    marks = ('"outcome":"cancelled"', '"error_kind":"client_gone"')
    return [line for line in lines if all(mark in line for mark in marks)]


def let_go_at(exchange: Exchange) -> float:
    """Wait until the gateway has closed its connection, and return when that was."""
    wait_until_sync(lambda: exchange.gone_at is not None)
    assert exchange.gone_at is not None
    return exchange.gone_at


def lines_with(service: Service, text: str) -> list[str]:
    """Return the call lines of the log that hold a text."""
    return [line for line in service.process.log().splitlines() if text in line]


def test_median_of_letting_go_is_below_what_is_promised(
    gateway: Service, upstream: Slot, key: Key
) -> None:
    """Of 20 disconnects, the median upstream request is closed within 100 ms."""
    upstream.plays(stream(START["openai"], end="hang"))
    waits = []
    for _ in range(20):
        with Connection(gateway.port) as connection:
            body = request(OPENAI, upstream.model("openai"), stream=True)
            connection.send(render("POST", OPENAI, body, x_api_key=key.raw))
            connection.read_head()
            connection.read_chunk()
            exchange = upstream.exchanges[-1]
            left_at = time.monotonic()
        waits.append(let_go_at(exchange) - left_at)
    waits.sort()
    print(f"let go: median {waits[10] * 1000:.1f} ms, worst {waits[-1] * 1000:.1f} ms")

    assert waits[10] < FAST_S


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_connection_to_the_upstream_is_used_again_after_a_whole_stream(
    connection: Connection, upstream: Slot, key: Key, wire: str
) -> None:
    """Streams that ended leave their connection to the next call of the same worker."""
    upstream.plays(stream(START[wire] + FINISH[wire] + END[wire]))
    body = request(PATHS[wire], upstream.model(wire), stream=True)

    for _ in range(5):
        assert connection.request("POST", PATHS[wire], body, x_api_key=key.raw).complete

    assert len({id(exchange.connection) for exchange in upstream.exchanges}) == 1


def resident_bytes(pid: int) -> int:
    """Return what a process holds in memory."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


@pytest.mark.parametrize(("path", "streamed"), [(OPENAI, True), (ANTHROPIC, True), (OPENAI, False)])
def test_client_that_reads_nothing_makes_no_memory_grow(
    gateway: Service,
    upstream: Slot,
    key: Key,
    path: str,
    streamed: bool,
    record_property: Callable[[str, object], None],
) -> None:
    """The upstream would send 200 MB: it is paused, and the worker holds a few chunks."""
    sent = [0]
    total = 200 * MIB
    event = START["openai"].replace(b"Hel", b"y" * 16_000)

    async def floods(exchange: Exchange) -> None:
        if streamed:
            await exchange.send(SSE + b"\r\n")
        else:
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            await exchange.send(head % total)
        while sent[0] < total:
            await (exchange.chunk if streamed else exchange.send)(event)
            sent[0] += len(event)

    upstream.plays(floods)
    workers = gateway.process.workers()
    before = sum(map(resident_bytes, workers))
    with Connection(gateway.port, receive_bytes=65_536) as connection:
        body = request(path, upstream.model("openai"), stream=streamed)
        connection.send(render("POST", path, body, x_api_key=key.raw))
        last = -1
        while sent[0] == 0 or sent[0] != last:
            last = sent[0]
            time.sleep(0.4)
        grown = sum(map(resident_bytes, workers)) - before

    record_property("grown_bytes", grown)
    print(f"grown by {grown / MIB:.1f} MiB after {sent[0] / MIB:.1f} MiB were taken")
    assert sent[0] < 40 * MIB, "the upstream was not paused"
    assert grown <= 12 * MIB


def test_client_that_reads_slowly_gets_every_byte(
    gateway: Service, upstream: Slot, key: Key
) -> None:
    """Pausing and resuming loses nothing and doubles nothing."""
    events = [START["openai"].replace(b"Hel", b"%06d" % n + b"y" * 4000) for n in range(2000)]
    said = b"".join(events) + FINISH["openai"] + END["openai"]
    upstream.plays(stream(*events, FINISH["openai"] + END["openai"]))
    with Connection(gateway.port, receive_bytes=16_384) as connection:
        body = request(
            OPENAI, upstream.model("openai"), stream=True, stream_options={"include_usage": True}
        )
        connection.send(render("POST", OPENAI, body, x_api_key=key.raw))
        connection.read_head()
        got = bytearray()
        while chunk := connection.read_chunk():
            got += chunk
            if len(got) % 7 == 0:
                time.sleep(0.002)

    assert bytes(got) == said

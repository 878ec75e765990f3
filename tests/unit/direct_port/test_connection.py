"""Connections of the direct port: order, ends and back-pressure, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.direct_port.connection import LINGER_BYTES
from tests.support.direct_server import (
    Receive,
    Send,
    Times,
    echo,
    read_body,
    respond,
    serving,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b"
OK = b"HTTP/1.1 200 OK"
CHUNK = b"x" * 65536
MUCH = 512 * len(CHUNK)
"""More than the kernel's buffers of a connection take, which are up to 10 MB."""


async def stands_still(count: list[int]) -> int:
    """Return a count once it does not change any more."""
    last = -1
    while count[0] == 0 or count[0] != last:
        last = count[0]
        await asyncio.sleep(0.2)
    return last


async def test_requests_of_a_connection_are_served_in_order() -> None:
    """Sent at once, with and without bodies; each body is its own request's."""
    async with serving(echo) as running, running.connected() as client:
        client.send(
            GET % 1
            + POST % (3, b"abc")
            + CHUNKED % b"2\r\nde\r\n0\r\n\r\n"
            + b"\r\n"
            + POST % (0, b"")
            + GET % 2
        )

        bodies = [(await client.response())[1] for _ in range(5)]

    assert bodies == [b"GET /1 ", b"POST /p abc", b"POST /c de", b"POST /p ", b"GET /2 "]


async def test_request_may_arrive_byte_by_byte() -> None:
    """Head, body and the head behind it."""
    async with serving(echo) as running, running.connected() as client:
        for byte in POST % (3, b"abc") + GET % 1:
            client.send(bytes([byte]))
            await asyncio.sleep(0)

        assert await client.response() == (OK, b"POST /p abc")
        assert await client.response() == (OK, b"GET /1 ")


async def test_next_request_waits_for_the_response() -> None:
    """The application never sees two requests of a connection at a time."""
    running_now, most, release = 0, 0, asyncio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await release.wait()
        running_now -= 1
        await respond(send, scope["raw_path"])

    async with serving(app) as running, running.connected() as client:
        client.send(GET % 1 + GET % 2 + GET % 3)
        await wait_until(lambda: running_now == 1)
        release.set()
        bodies = [(await client.response())[1] for _ in range(3)]

    assert (bodies, most) == ([b"/1", b"/2", b"/3"], 1)


async def test_requests_sent_ahead_are_bounded() -> None:
    """Reading pauses, so the client's sending does; all are served afterwards."""
    release = asyncio.Event()

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await release.wait()
        await respond(send, b"")

    large = b"GET / HTTP/1.1\r\nHost: x\r\nx: %b\r\n\r\n" % (b"y" * 60_000)
    async with serving(app) as running, running.connected() as client:
        poured = [0]
        pouring = asyncio.create_task(client.pour(large, MUCH // len(large), poured))
        held_at = await stands_still(poured)
        release.set()
        for _ in range(MUCH // len(large)):
            assert await client.response() == (OK, b"")
        await pouring

    assert held_at < MUCH * 2 // 3


async def test_body_that_nobody_reads_is_bounded() -> None:
    """And arrives whole once the application asks for it."""
    release = asyncio.Event()
    received: list[int] = []

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await release.wait()
        received.append(len(await read_body(receive)))
        await respond(send, b"")

    async with serving(app) as running, running.connected() as client:
        poured = [0]
        client.send(POST % (MUCH, b""))
        pouring = asyncio.create_task(client.pour(CHUNK, MUCH // len(CHUNK), poured))
        held_at = await stands_still(poured)
        release.set()
        assert await client.response() == (OK, b"")
        await pouring

    assert received == [MUCH]
    assert held_at < MUCH * 2 // 3


async def test_client_that_reads_nothing_holds_the_application() -> None:
    """`send` waits beyond the high-water mark, and goes on when the client reads."""
    sent = [0]

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _chunk in range(MUCH // len(CHUNK)):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            sent[0] += len(CHUNK)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with serving(app) as running, running.connected() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(GET % 1)
        held_at = await stands_still(sent)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        count, last = 0, b""
        async with asyncio.timeout(20):
            while not last.endswith(b"\r\n0\r\n\r\n"):
                piece = await client.reader.read(1_000_000)
                count += piece.count(b"x")
                last = (last + piece)[-7:]

    assert held_at < MUCH * 2 // 3
    assert count == MUCH


@pytest.mark.parametrize("is_waiting", [True, False])
async def test_client_that_leaves_is_noticed(is_waiting: bool) -> None:
    """A pending `receive` and a later one return it; what is sent afterwards is dropped."""
    seen: list[str] = []
    began, gone = asyncio.Event(), asyncio.Event()

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        began.set()
        if not is_waiting:
            await gone.wait()
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        await respond(send, CHUNK)
        seen.append("sent")

    async with serving(app) as running:
        async with running.connected() as client:
            client.send(GET % 1)
            await began.wait()
        await wait_until(lambda: not running.server.open_connections)
        gone.set()
        await wait_until(lambda: len(seen) == 3)

    assert seen == ["http.disconnect", "http.disconnect", "sent"]


async def test_client_that_leaves_releases_a_held_application() -> None:
    """The wait for room ends with the connection."""
    ended = asyncio.Event()

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _chunk in range(MUCH // len(CHUNK)):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        ended.set()

    async with serving(app) as running:
        async with running.connected() as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(GET % 1)
            await asyncio.sleep(0.2)
            assert not ended.is_set()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_wait_for_room_may_be_cancelled_and_repeated() -> None:
    """As the gateway does when a client takes no bytes in time."""
    waits = 0

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal waits
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while waits < 3:
            try:
                async with asyncio.timeout(0.1):
                    await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            except TimeoutError:
                waits += 1

    async with serving(app) as running, running.connected() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(GET % 1)
        await wait_until(lambda: waits == 3)
        await wait_until(lambda: not running.server.open_connections)


@pytest.mark.parametrize("request_head", [b"HEAD /1 HTTP/1.1", b"GET /1 HTTP/1.0"])
async def test_head_and_http_1_0(request_head: bytes) -> None:
    """No body after HEAD; a connection of HTTP/1.0 is closed."""
    async with serving(echo) as running, running.connected() as client:
        client.send(request_head + b"\r\nHost: x\r\n\r\n" + GET % 2)
        head = await client.head()
        assert b"\r\ncontent-length: " in head
        if request_head.startswith(b"HEAD"):
            assert await client.response() == (OK, b"GET /2 ")
        else:
            assert b"connection: close" in head
            assert await client.rest() == b"GET /1 "


async def test_client_may_wait_for_100() -> None:
    """It gets 100 when its body is asked for, and not if the response comes without it."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b"unread" if scope["raw_path"] == b"/no" else await read_body(receive)
        await respond(send, body)

    head = b"POST /%b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    async with serving(app) as running:
        async with running.connected() as client:
            client.send(head % b"yes")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            assert await client.response() == (OK, b"abc")
        async with running.connected() as client:
            client.send(head % b"no")
            assert await client.response() == (OK, b"unread")
            assert await client.rest() == b""


@pytest.mark.parametrize("body", [b"zz\r\n", b"2\r\nabc", b"1\nx\r\n0\r\n\r\n"])
async def test_malformed_chunks_end_the_connection(body: bytes) -> None:
    """The application learns that nothing more comes, and may still respond."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await respond(send, await read_body(receive), 400)

    async with serving(app) as running, running.connected() as client:
        client.send(CHUNKED % body + GET % 1)
        status, said = await client.response()
        assert (status, said[-1:]) == (b"HTTP/1.1 400 Bad Request", b"!")
        assert await client.rest() == b""


async def test_refused_head_ends_the_connection() -> None:
    """With a reason, and nothing behind it is served."""
    async with serving(echo) as running, running.connected() as client:
        client.send(GET % 1 + b"GET / HTTP/1.1\r\nHost : x\r\n\r\n" + GET % 2)
        assert await client.response() == (OK, b"GET /1 ")
        assert (await client.response())[0] == b"HTTP/1.1 400 Bad Request"
        assert await client.rest() == b""


@pytest.mark.parametrize("size", [65536, 1_000_000])
async def test_head_without_end_is_refused(size: int) -> None:
    """At 64 KiB, however it arrives."""
    async with serving(echo) as running, running.connected() as client:
        client.send(b"GET / HTTP/1.1\r\nx: " + b"a" * size)
        status, _ = await client.response()
        assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
        assert await client.rest() == b""


async def test_response_survives_a_client_that_still_sends() -> None:
    """The connection lingers; what is sent beyond a bound resets it."""

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await respond(send, b"too large", 413)

    async with serving(app) as running, running.connected() as client:
        client.send(POST % (10**9, b"y" * 1_000_000))
        assert await client.response() == (b"HTTP/1.1 413 Content Too Large", b"too large")
        assert await client.rest() == b""
        with pytest.raises(ConnectionError):
            for _ in range(2 * LINGER_BYTES // len(CHUNK)):
                client.send(CHUNK)
                await client.writer.drain()
        await wait_until(lambda: not running.server.open_connections)


@pytest.mark.parametrize("length", [b"10", None])
async def test_response_without_its_end_breaks_the_connection(length: bytes | None) -> None:
    """What was sent arrives, and the next request is not served."""

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = [] if length is None else [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serving(app) as running, running.connected() as client:
        client.send(GET % 1 + GET % 2)
        await client.head()
        assert await client.rest() == (b"4\r\nhalf\r\n" if length is None else b"half")


async def test_response_that_lacks_bytes_is_the_last_one() -> None:
    """Its length was a promise; more than that is not sent either."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        size = b"3" if scope["raw_path"] == b"/1" else b"9"
        headers = [(b"content-length", size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345", "more_body": False})

    async with serving(app) as running, running.connected() as client:
        client.send(GET % 1 + GET % 2 + GET % 3)
        assert await client.response() == (OK, b"123")
        await client.head()
        assert await client.rest() == b"12345"


async def test_failure_of_the_application_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged; other connections are served."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["raw_path"] == b"/1":
            raise RuntimeError("broken")
        await respond(send, b"")

    async with serving(app) as running:
        async with running.connected() as client:
            client.send(GET % 1)
            assert await client.rest() == b""
        async with running.connected() as client:
            client.send(GET % 2)
            assert await client.response() == (OK, b"")

    assert "direct_request_failed" in caplog.text


async def test_half_closed_connection_is_closed() -> None:
    """The body can no longer become complete."""
    async with serving(echo, Times()) as running, running.connected() as client:
        client.send((POST % (3, b"a"))[:-1])
        client.writer.write_eof()
        assert await client.rest() == b""

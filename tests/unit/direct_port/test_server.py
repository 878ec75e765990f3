"""The direct port: who is accepted, clocks, and the end."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from gateway.direct_port import server as direct_server
from gateway.direct_port.server import DirectServer
from tests.support.direct_server import Receive, Send, Times, echo, respond, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK"


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked through more often."""
    monkeypatch.setattr(direct_server, "SWEEP_S", 0.05)


async def test_connection_beyond_the_cap_waits() -> None:
    """In the kernel's queue; it is served when another one has ended."""
    async with (
        serving(echo, max_connections=2) as running,
        running.connected() as first,
        running.connected() as second,
    ):
        for client in (first, second):
            client.send(GET % 1)
            assert (await client.response())[0] == OK
        async with running.connected() as third:
            third.send(GET % 3)
            await asyncio.sleep(0.1)
            assert running.server.open_connections == 2
            first.writer.close()
            assert await third.response() == (OK, b"GET /3 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n\r\n"])
async def test_first_head_has_a_clock(sent: bytes) -> None:
    """Silent connections and half a head are closed."""
    times = Times(header_timeout_s=0.2)
    async with serving(echo, times) as running, running.connected() as client:
        client.send(sent)
        assert await client.rest() == b""
        await wait_until(lambda: not running.server.open_connections)


async def test_drops_do_not_extend_the_clock() -> None:
    """A head that arrives byte by byte is closed all the same."""
    times = Times(header_timeout_s=0.3)
    async with serving(echo, times) as running, running.connected() as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not client.reader.at_eof() and loop.time() < began + 5:
            client.send(b"a")
            await asyncio.sleep(0.02)
        assert 0.2 < loop.time() - began < 2


async def test_idle_connection_has_another_clock() -> None:
    """It begins with the end of the response."""
    times = Times(header_timeout_s=0.2, idle_timeout_s=0.6)
    async with serving(echo, times) as running, running.connected() as client:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            client.send(GET % 1)
            assert (await client.response())[0] == OK
            await asyncio.sleep(0.35)
        began = loop.time()
        assert await client.rest() == b""
        assert loop.time() - began > 0.1


async def test_running_request_has_no_clock() -> None:
    """It has the application's."""

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await respond(send, b"late")

    times = Times(header_timeout_s=0.1, idle_timeout_s=0.1)
    async with serving(app, times) as running, running.connected() as client:
        client.send(GET % 1)
        assert await client.response() == (OK, b"late")


async def test_blocked_loop_lets_no_clock_run_out() -> None:
    """What has arrived meanwhile is read first."""
    async with serving(echo, Times(header_timeout_s=0.3)) as running:
        before = running.server.now
        running.server._swept_at -= 100
        await asyncio.sleep(0.1)
        assert running.server.now - before < 0.3


@pytest.mark.parametrize("keeps_reading", [True, False])
async def test_client_that_does_not_read_the_rest_is_given_up(keeps_reading: bool) -> None:
    """A slow one that reads on is not."""
    size = 32 * 1024 * 1024

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await respond(send, b"x" * size)

    times = Times(send_stall_s=0.5, idle_timeout_s=0.5)
    async with serving(app, times) as running, running.connected() as client:
        client.send(GET % 1)
        await client.head()
        if not keeps_reading:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wait_until(lambda: not running.server.open_connections, 20)
            return
        got = 0
        while got < size:
            piece = await client.reader.read(1_000_000)
            assert piece, f"closed after {got} bytes"
            got += len(piece)
            await asyncio.sleep(len(piece) * 2 / size)


async def test_finish_waits_for_running_requests_alone() -> None:
    """Idle connections and new ones are closed; a response says that it is the last one."""
    began, release = asyncio.Event(), asyncio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["raw_path"] == b"/1":
            began.set()
            await release.wait()
        await respond(send, b"")

    async with (
        serving(app) as running,
        running.connected() as busy,
        running.connected() as idle,
    ):
        idle.send(GET % 2)
        await idle.response()
        busy.send(GET % 1 + GET % 2)
        await began.wait()
        finishing = asyncio.create_task(running.server.finish())
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            async with running.connected():
                pass
        assert not finishing.done()
        release.set()
        assert b"connection: close" in await busy.head()
        assert await busy.rest() == b""
        await finishing


async def test_no_free_file_delays_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are accepted when there is one again."""
    monkeypatch.setattr(direct_server, "_RETRY_S", 0.1)
    failures = [errno.EMFILE]

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if failures:
                raise OSError(failures.pop(), "no file")
            return super().accept()

    listener = Full()
    listener.bind(("127.0.0.1", 0))
    listener.listen(10)
    port = listener.getsockname()[1]
    server = DirectServer(echo, listener, Times(), 10)
    server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % 1)
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n")).startswith(OK)
    writer.close()
    await server.finish()
    server.stop()
    assert not failures

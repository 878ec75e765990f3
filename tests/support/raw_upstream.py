"""
A provider that says exactly the bytes it is told, and remembers exactly the bytes it got.

It runs on a thread of its own, so that blocking tests can talk to the gateway meanwhile. Each test
gets a slot: a provider with models of its own under a path of its own, so that nothing of one
test, be it a script or a breaker that opened, reaches the next.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


class Exchange:
    """One request, and the way to answer it."""

    def __init__(self, connection: _Connection, head: bytes, body: bytes) -> None:
        self._connection = connection
        self.head = head
        self.body = body
        self.ended_at: float | None = None
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(":") for line in lines if line)
        ]

    def header(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        """The request's body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def gone_at(self) -> float | None:
        """When the gateway closed this connection, on the monotonic clock."""
        return self._connection.gone_at

    async def say(self, sent: bytes) -> None:
        """Send bytes as they are; ConnectionError once the gateway is gone."""
        await self._connection.say(sent)

    async def chunk(self, piece: bytes) -> None:
        """Send one chunk of a chunked body."""
        await self.say(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def until_gone(self) -> None:
        """Return when the gateway has closed the connection."""
        await self._connection.gone.wait()

    def close(self) -> None:
        """Close the connection after what was sent."""
        self._connection.close()


Script = Callable[[Exchange], Awaitable[None]]


def whole(body: bytes, status: int = 200, *, headers: bytes = b"") -> Script:
    """Return a script that answers with a JSON body, or with any."""
    kind = b"" if b"ontent-" in headers else b"Content-Type: application/json\r\n"

    async def play(exchange: Exchange) -> None:
        head = b"HTTP/1.1 %d Status\r\n%b%bContent-Length: %d\r\n\r\n"
        await exchange.say(head % (status, kind, headers, len(body)) + body)

    return play


def stream(*pieces: bytes | float, end: str = "clean", headers: bytes = b"") -> Script:
    """
    Return a script that streams.

    Args:
        pieces: Bytes go out as one chunk each; a number is a pause in seconds.
        end: `clean` ends the body, `break` closes the connection inside of it, `hang` waits until
            the gateway goes away.
        headers: Further lines of the head.
    """

    async def play(exchange: Exchange) -> None:
        await exchange.say(SSE + headers + b"\r\n")
        for piece in pieces:
            if isinstance(piece, bytes):
                await exchange.chunk(piece)
            else:
                await asyncio.sleep(piece)
        if end == "clean":
            await exchange.say(b"0\r\n\r\n")
        elif end == "break":
            exchange.close()
        else:
            await exchange.until_gone()

    return play


def close_at_once() -> Script:
    """Return a script that closes the connection without a word."""

    async def play(exchange: Exchange) -> None:
        exchange.close()

    return play


class Slot:
    """
    One provider of the raw upstream, with the models that stand on it.

    Args:
        number: Of the slot.
        hasty: The gateway gives this provider half a second for everything.
    """

    def __init__(self, number: int, *, hasty: bool) -> None:
        self.name = f"raw-{number:02d}"
        self.hasty = hasty
        self.exchanges: list[Exchange] = []
        self._scripts: list[Script] = []

    def plays(self, *scripts: Script) -> Slot:
        """Answer the next requests with these, all further ones with the last."""
        self._scripts = [*scripts]
        return self

    def next_script(self) -> Script:
        """Return what the next request is answered with."""
        return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def model(self, wire: str) -> str:
        """Return the model that only this provider serves, on one wire."""
        return f"{self.name}-{wire}"

    def fallback(self, wire: str) -> str:
        """Return the model that this provider serves first, and the demo upstream next."""
        return f"{self.name}-{wire}-fallback"

    def config(self, port: int, key_file: str) -> str:
        """Return the TOML of the provider and its models."""
        base = f"http://127.0.0.1:{port}/{self.name}"
        clocks = "{first_byte_s = 0.5, first_content_s = 0.5, idle_s = 0.5, total_s = 3}"
        text = f"""
[[providers]]
name = "{self.name}"
openai = {{ base_url = "{base}/v1" }}
anthropic = {{ base_url = "{base}" }}
api_key_file = "{key_file}"
caps = {{ midconv_system = "system" }}
{f"timeouts = {clocks}" if self.hasty else ""}
"""
        for wire in ("openai", "anthropic"):
            own = f'provider = "{self.name}", model = "up-{self.name}", wires = ["{wire}"]'
            other = f'provider = "demo", model = "up-demo", wires = ["{wire}"]'
            text += f"""
[[models]]
name = "{self.model(wire)}"
deployments = [{{ {own} }}]
[[models]]
name = "{self.fallback(wire)}"
deployments = [{{ {own} }}, {{ {other} }}]
"""
        return text


class RawUpstream:
    """
    The server of all slots.

    Args:
        slots: How many tests it can serve with usual clocks, and as many with hasty ones.
    """

    def __init__(self, slots: int) -> None:
        self._slots = [Slot(number, hasty=number % 2 == 1) for number in range(2 * slots)]
        self._by_name = {slot.name: slot for slot in self._slots}
        self._unused = {False: self._slots[::2], True: self._slots[1::2]}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="raw-upstream")
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def start(self) -> RawUpstream:
        """Listen on a free port."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def config(self, key_file: str) -> str:
        """Return the TOML of all slots."""
        return "".join(slot.config(self.port, key_file) for slot in self._slots)

    def take(self, *, hasty: bool = False) -> Slot:
        """Return the slot that has been out of use for longest."""
        return self._unused[hasty].pop(0)

    def give_back(self, slot: Slot) -> None:
        """Take a slot back for a later test."""
        slot.exchanges = []
        slot.plays(close_at_once())
        self._unused[slot.hasty].append(slot)

    def slot(self, target: str) -> Slot:
        """Return the slot that a request is for."""
        return self._by_name[target.split("/")[1]]

    def spawn(self, work: Any) -> None:
        """Run a connection."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    def __init__(self, server: RawUpstream) -> None:
        self._server = server
        self._held = bytearray()
        self._arrived = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self.gone_at: float | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.spawn(self._serve())

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._arrived.set()

    def eof_received(self) -> None:
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    async def say(self, sent: bytes) -> None:
        assert self._transport is not None
        if self.gone_at is not None:
            raise ConnectionResetError
        self._transport.write(sent)
        await self._may_write.wait()

    def _lost(self) -> None:
        if self.gone_at is None:
            self.gone_at = time.monotonic()
        self.gone.set()
        self._arrived.set()
        self._may_write.set()

    async def _serve(self) -> None:
        assert self._transport is not None
        try:
            while True:
                head = bytes(await self._until(b"\r\n\r\n"))
                _, found, rest = head.lower().partition(b"content-length: ")
                body = await self._exactly(int(rest.split(b"\r\n")[0]) if found else 0)
                exchange = Exchange(self, head.removesuffix(b"\r\n\r\n"), body)
                slot = self._server.slot(exchange.target)
                slot.exchanges.append(exchange)
                await slot.next_script()(exchange)
                exchange.ended_at = time.monotonic()
        except ConnectionError:
            pass
        finally:
            self._transport.close()

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._held.find(mark)) < 0:
            await self._more()
        return self._take(at + len(mark))

    async def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            await self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def _more(self) -> None:
        self._arrived.clear()
        if self.gone_at is not None:
            raise ConnectionResetError
        await self._arrived.wait()

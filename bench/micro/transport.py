"""
What the upstream transport costs by itself: CPU per request, per streamed chunk, per parsed chunk.

    python -m bench.micro.transport

A mock upstream runs in a process of its own; CPU is this process's, user + system, on uvloop.
`parse` feeds `data_received` without a socket: the Python and llhttp share of a chunk.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import resource
import time
from collections.abc import Awaitable, Callable

import uvloop

from gateway.core.model import Clocks, Origin
from gateway.demo.server import CHUNKED_END, Exchange, ScriptedServer, each_request
from gateway.errors import GatewayError
from gateway.ports import UpstreamRequest
from gateway.upstream.http1.connection import Http1Connection
from gateway.upstream.transport import UpstreamTransport

REQUESTS = 20_000
CHUNKS = 100_000
PARSED = 500_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON_BODY = b'{"id":"chatcmpl-1","object":"chat.completion","usage":{"total_tokens":12}}'
RESPONSE = HEAD + b"Content-Length: %d\r\n\r\n" % len(JSON_BODY) + JSON_BODY
CHUNK = b"64\r\n" + b"x" * 100 + b"\r\n"
HEADERS = (
    (b"host", b"127.0.0.1"),
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"bench"),
)


async def respond(exchange: Exchange) -> None:
    """Respond to `GET /json` at once and to `GET /stream` with one write per chunk."""
    if exchange.target == "/json":
        await exchange.send(RESPONSE)
        return
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(CHUNKS):
        await exchange.send(CHUNK)
        await asyncio.sleep(0)
    await exchange.send(CHUNKED_END)


def run_mock(ports: multiprocessing.connection.Connection) -> None:
    """Serve until killed; send the port first."""

    async def main() -> None:
        server = ScriptedServer(each_request(respond))
        ports.send(await server.listen())
        await asyncio.Event().wait()

    uvloop.run(main())


class Counter:
    """A sink that counts calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.done = asyncio.Event()

    def body_chunk(self, chunk: bytes) -> None:
        self.calls += 1

    def body_end(self) -> None:
        self.done.set()

    def body_failed(self, error: GatewayError) -> None:
        raise error


class NoSocket(asyncio.Transport):
    """A socket that discards everything."""

    def write(self, data: object) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


class NoPool:
    """An owner that ignores its connections."""

    def released(self, connection: Http1Connection) -> None:
        pass

    def lost(self, connection: Http1Connection) -> None:
        pass


def cpu_s() -> float:
    """CPU seconds of this process, user + system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(name: str, work: Callable[[], Awaitable[tuple[int, str]]]) -> None:
    """Run once and print CPU and wall time per unit."""
    cpu, wall = cpu_s(), time.perf_counter()
    units, note = await work()
    cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    print(f"{name:28} {cpu / units * 1e6:8.2f} us CPU {wall / units * 1e6:8.2f} us wall  {note}")


def request(origin: Origin, path: str) -> UpstreamRequest:
    """Return a GET as a call would send it."""
    return UpstreamRequest(
        origin=origin,
        method="GET",
        path=path,
        headers=HEADERS,
        body=b"",
        clocks=Clocks(5.0, 60.0, 60.0, 60.0, 600.0),
        head_timeout_s=60.0,
    )


async def bench(port: int) -> None:
    """Measure everything against the mock on this port."""
    transport = UpstreamTransport()
    origin = Origin(host="127.0.0.1", port=port, tls=False)

    async def sequence(count: int) -> None:
        asked = request(origin, "/json")
        for _ in range(count):
            await (await transport.send(asked)).read(100_000)

    async def requests_over(connections: int) -> tuple[int, str]:
        await asyncio.gather(*(sequence(REQUESTS // connections) for _ in range(connections)))
        return REQUESTS, f"{connections} at once"

    async def chunks() -> tuple[int, str]:
        sink = Counter()
        (await transport.send(request(origin, "/stream"))).start(sink)
        await sink.done.wait()
        return CHUNKS, f"in {sink.calls} reads: {CHUNKS / sink.calls:.1f} chunks a read"

    async def parse() -> tuple[int, str]:
        connection = Http1Connection(asyncio.get_running_loop(), origin, NoPool())
        connection.connection_made(NoSocket())
        task = asyncio.ensure_future(connection.exchange(request(origin, "/"), 60.0))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        (await task).start(Counter())
        await asyncio.sleep(0)
        receive = connection.data_received
        for _ in range(PARSED):
            receive(CHUNK)
        connection.drop()
        return PARSED, "one chunk a read, no socket"

    await sequence(500)
    for _ in range(3):
        await measured("request, keep-alive", lambda: requests_over(1))
        await measured("request, keep-alive", lambda: requests_over(32))
        await measured("chunk of 100 bytes, socket", chunks)
        await measured("chunk of 100 bytes, parse", parse)
    await transport.aclose()


def main() -> None:
    """Start the mock, measure, stop the mock."""
    ours, theirs = multiprocessing.Pipe()
    mock = multiprocessing.Process(target=run_mock, args=(theirs,), daemon=True)
    mock.start()
    try:
        uvloop.run(bench(ours.recv()))
    finally:
        mock.terminate()
        mock.join()


if __name__ == "__main__":
    argparse.ArgumentParser(description="Connections to upstreams, see the module.").parse_args()
    main()

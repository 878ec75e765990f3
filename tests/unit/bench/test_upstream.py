"""The mock upstream of the benchmarks."""

from __future__ import annotations

import asyncio
import socket
import time

import uvloop

from bench.upstream import Intake
from gateway.demo.server import Exchange, ScriptedServer, each_request, whole

CONNECTIONS = 100


async def accepted_in_turns(turns: int) -> int:
    """Return how many of waiting connections have a response after a few turns of a busy loop."""
    responded = 0

    def respond(exchange: Exchange) -> None:
        nonlocal responded
        responded += 1
        exchange.connection.write(whole(b"{}"))

    listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
    port = listener.getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    server = ScriptedServer(each_request(respond))
    _intake = Intake(server, listener)
    for _ in range(turns):
        time.sleep(0.001)  # noqa: ASYNC251 -- streams that take all of the loop's time
        await asyncio.sleep(0)
    found = responded
    await server.aclose()
    for client in clients:
        client.close()
    asyncio.get_running_loop().remove_reader(listener)
    listener.close()
    return found


def test_busy_upstream_accepts_many_connections_in_a_turn() -> None:
    """Else openings would wait for the mock upstream, whatever system is measured."""
    assert uvloop.run(accepted_in_turns(20)) == CONNECTIONS

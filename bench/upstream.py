"""
The mock upstream of the benchmarks: as little work as possible for each byte it sends.

    python -m bench.upstream PORT [TLS_PORT CERTIFICATE KEY]

The end of the request's path decides: `.../chat/completions` and `.../messages` have a response in
the dialect's form, `.../count_tokens` a count. The JSON body's `model` names the behaviour: `short`
returns a small JSON at once; `burst-N` streams N chunks as fast as the socket takes them, one write
each; `paced-N-MS` streams N chunks, one each MS milliseconds. GET has a list of models for every
path: routers ask for it, or for the status alone, to find out whether the upstream is healthy.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import ssl

import uvloop

from gateway.demo.server import (
    CHUNKED_END,
    STREAM_HEAD,
    Connection,
    Exchange,
    ScriptedServer,
    chunk,
    each_request,
    whole,
)

_MODEL = re.compile(rb'"model" *: *"([^"]+)"')
_TEXT = b"the quick brown fox jumps"

_HEAD = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"m",'
OPENAI_CHUNK = (
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{"content":"' + _TEXT + b'"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
OPENAI_TAIL = (
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: " + _HEAD + b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":100,'
    b'"total_tokens":120}}\n\ndata: [DONE]\n\n'
)
ANTHROPIC_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_b","type":"message",'
    b'"role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":20,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
ANTHROPIC_CHUNK = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"' + _TEXT + b'"}}\n\n'
)
ANTHROPIC_TAIL = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
    b'"stop_sequence":null},"usage":{"output_tokens":100}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
SHORT_OPENAI = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1,"model":"m","choices":[{"index"'
    b':0,"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22}}'
)
SHORT_ANTHROPIC = (
    b'{"id":"msg_b","type":"message","role":"assistant","model":"m","content":[{"type":"text",'
    b'"text":"Hello!"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":20,"output_tokens":2}}'
)
COUNT = b'{"input_tokens":20}'
LISTED = (
    b'{"object":"list","data":[{"id":"short","object":"model","created":1,"owned_by":"bench"}]}'
)

_COUNTED, _LISTED = whole(COUNT), whole(LISTED)
_ACCEPTS = 64
"""Most connections that are accepted before the loop goes on to streams."""
_WHOLE = {False: whole(SHORT_OPENAI), True: whole(SHORT_ANTHROPIC)}
_START = {False: b"", True: chunk(ANTHROPIC_START)}
_CHUNK = {False: chunk(OPENAI_CHUNK), True: chunk(ANTHROPIC_CHUNK)}
_TAIL = {False: chunk(OPENAI_TAIL) + CHUNKED_END, True: chunk(ANTHROPIC_TAIL) + CHUNKED_END}


def respond(exchange: Exchange) -> None:
    """Write the response, or set the timer that will."""
    connection = exchange.connection
    line = exchange.head.partition(b"\r\n")[0]
    if line.startswith(b"GET ") or b"/count_tokens" in line:
        connection.write(_LISTED if line.startswith(b"GET ") else _COUNTED)
        return
    anthropic = b"/messages" in line
    found = _MODEL.search(exchange.body)
    kind, *numbers = (found[1] if found else b"short").split(b"-")
    if kind == b"short":
        connection.write(_WHOLE[anthropic])
    elif kind == b"burst":
        _burst(connection, anthropic, int(numbers[0]))
    else:
        _paced(connection, anthropic, int(numbers[0]), int(numbers[1]) / 1000)


def _burst(connection: Connection, anthropic: bool, count: int) -> None:
    write, piece = connection.transport.write, _CHUNK[anthropic]
    write(STREAM_HEAD + _START[anthropic])
    for _ in range(count):
        write(piece)
    write(_TAIL[anthropic])


def _paced(connection: Connection, anthropic: bool, count: int, pace_s: float) -> None:
    loop = asyncio.get_running_loop()
    write, piece, tail = connection.transport.write, _CHUNK[anthropic], _TAIL[anthropic]
    write(STREAM_HEAD + _START[anthropic])
    due = loop.time()

    def step(left: int) -> None:
        nonlocal due
        if connection.gone_at is not None:
            return
        if left == 0:
            write(tail)
            return
        write(piece)
        due += pace_s
        loop.call_at(due, step, left - 1)

    step(count)


class Intake:
    """
    Accepts the connections of a listening socket.

    uvloop's own server accepts one in a turn of the loop. While thousands of streams make a turn
    long, connections would wait for seconds, as if a system under test were slow.
    """

    def __init__(self, server: ScriptedServer, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._opening: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTS):
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            task = loop.create_task(self._open(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: Connection(self._server), accepted)
        except OSError:  # it has ended meanwhile
            accepted.close()


async def serve(port: int, tls_port: int | None = None, *files: str) -> None:
    """Serve on the loopback interface until cancelled."""
    server = ScriptedServer(each_request(respond))
    _intake = Intake(server, socket.create_server(("127.0.0.1", port), backlog=4096))
    if tls_port is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        await server.listen(tls_port, tls=context)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The mock upstream, see the module.")
    parser.add_argument("port", type=int)
    parser.add_argument("tls", nargs="*", help="another port, a certificate and its key")
    given = parser.parse_args()
    uvloop.run(serve(given.port, int(given.tls[0]) if given.tls else None, *given.tls[1:]))

"""
The mock upstream of the benchmarks: as little work as possible for each byte it sends.

    python -m bench.upstream PORT

The request's path decides, whatever stands before it: `.../chat/completions` and `.../messages`
answer in the dialect's form. The JSON body's `model` names the behaviour: `short` answers a small
JSON at once; `burst-N` streams N chunks as fast as the socket takes them, one write each;
`paced-N-MS` streams N chunks, one each MS milliseconds.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
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


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WHOLE = {False: _whole(SHORT_OPENAI), True: _whole(SHORT_ANTHROPIC)}
_START = {False: b"", True: _framed(ANTHROPIC_START)}
_CHUNK = {False: _framed(OPENAI_CHUNK), True: _framed(ANTHROPIC_CHUNK)}
_TAIL = {
    False: _framed(OPENAI_TAIL) + b"0\r\n\r\n",
    True: _framed(ANTHROPIC_TAIL) + b"0\r\n\r\n",
}


class MockUpstream(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._handle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        size = int(length[1]) if length else 0
        if len(self._buffer) < end + 4 + size:
            return
        request, self._buffer = self._buffer, b""
        self._answer(request, end)

    def _answer(self, request: bytes, end: int) -> None:
        assert self._transport is not None
        anthropic = b"/messages" in request[: request.index(b"\r\n")]
        found = _MODEL.search(request, end)
        kind, *numbers = (found[1] if found else b"short").split(b"-")
        if kind == b"short":
            self._transport.write(_WHOLE[anthropic])
        elif kind == b"burst":
            self._burst(anthropic, int(numbers[0]))
        else:
            self._paced(anthropic, int(numbers[0]), int(numbers[1]) / 1000)

    def _burst(self, anthropic: bool, count: int) -> None:
        assert self._transport is not None
        write, chunk = self._transport.write, _CHUNK[anthropic]
        write(_STREAM_HEAD + _START[anthropic])
        for _ in range(count):
            write(chunk)
        write(_TAIL[anthropic])

    def _paced(self, anthropic: bool, count: int, pace_s: float) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        transport, chunk, tail = self._transport, _CHUNK[anthropic], _TAIL[anthropic]
        transport.write(_STREAM_HEAD + _START[anthropic])
        due = loop.time()

        def step(left: int) -> None:
            nonlocal due
            if left == 0:
                transport.write(tail)
                return
            transport.write(chunk)
            due += pace_s
            self._handle = loop.call_at(due, step, left - 1)

        step(count)


async def serve(port: int) -> None:
    """Serve on the loopback interface until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(MockUpstream, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

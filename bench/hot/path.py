"""
The hot path of one worker in this process, without sockets and stores; see `bench.parts`.

Edge, key cache, routing, connections, relay, meters, metrics and records are the worker's own.
Sockets, the ASGI server, Redis and SQL are a few lines each, so that the kernel's share of the CPU,
which varies most, is left out.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any, cast

from gateway.core.limits import UNLIMITED
from gateway.core.model import CallRecord, Origin, Principal, Wire, WireRoute
from gateway.edge.asgi import Edge
from gateway.edge.inference import Inference
from gateway.pipeline.client.channel import Message
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Keys
from gateway.store.keys.cache import KeyCache
from gateway.store.redis.client import RedisUnavailable
from gateway.telemetry.logs import CallLine, CallLog
from gateway.upstream.http1.connection import Http1Connection
from gateway.upstream.pool import OriginPool
from gateway.upstream.transport import client_ssl_context
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    PRINCIPAL,
    RAW_KEY,
    a_deployment,
    a_provider,
    openai_event,
)

Work = Callable[[], Awaitable[object]]

CHUNKS = 100
"""Events of a stream, each of which arrives by itself."""
ORIGIN = Origin("upstream.test", 80, tls=False)
BODY = (
    b'{"model":"m","messages":[{"role":"system","content":"You are helpful."},'
    b'{"role":"user","content":"What is the capital of France?"}],"max_tokens":64}'
)
STREAM_BODY = BODY[:-1] + b',"stream":true}'
MESSAGES_BODY = (
    b'{"model":"m","system":"You are helpful.","max_tokens":64,"stream":true,'
    b'"messages":[{"role":"user","content":"What is the capital of France?"}]}'
)
# What the SDK of OpenAI sends.
HEADERS = [
    (b"host", b"gateway.test:8080"),
    (b"connection", b"keep-alive"),
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 2.8.1"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"2.8.1"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-runtime-version", b"3.11.7"),
    (b"authorization", b"Bearer " + RAW_KEY.encode()),
    (b"x-stainless-async", b"false"),
    (b"x-stainless-retry-count", b"0"),
    (b"x-stainless-read-timeout", b"600"),
    (b"accept-encoding", b"gzip, deflate"),
]
JSON_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"up-m","choices":[{"index":'
    b'0,"message":{"role":"assistant","content":"Paris."},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22}}'
)
WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\n"
    b"x-request-id: up_1\r\nContent-Length: %d\r\n\r\n%b" % (len(JSON_BODY), JSON_BODY)
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: up_1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_EVENTS = [_framed(openai_event(f"word {number:05} ")) for number in range(CHUNKS)]
_LAST = _framed(OPENAI_FINISH) + _framed(OPENAI_USAGE) + _framed(OPENAI_DONE) + b"0\r\n\r\n"
STREAM = (_STREAM_HEAD, *_EVENTS, _LAST)


class Socket(asyncio.Transport):
    """A socket whose peer responds with one read a turn of the loop."""

    def __init__(self, connection: Http1Connection) -> None:
        super().__init__()
        self._receive = connection.data_received
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        reads = STREAM if b'"stream":true' in bytes(data) else (WHOLE,)
        self._loop.call_soon(self._respond, iter(reads))

    def _respond(self, reads: Any) -> None:
        read = next(reads, None)
        if read is not None:
            self._receive(read)
            self._loop.call_soon(self._respond, reads)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class Loop(asyncio.AbstractEventLoop):
    """The running loop, whose connections have no socket."""

    def __init__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.time = loop.time  # type: ignore[method-assign]
        self.call_at = loop.call_at  # type: ignore[method-assign]
        self.call_soon = loop.call_soon  # type: ignore[method-assign]
        self.call_later = loop.call_later  # type: ignore[method-assign]
        self.create_future = loop.create_future  # type: ignore[method-assign]

    async def create_connection(self, protocol_factory: Any, *_: object, **__: object) -> Any:
        connection = protocol_factory()
        transport = Socket(connection)
        connection.connection_made(transport)
        return transport, connection


class _NoRedis:
    async def command(self, *_: object) -> object:
        raise RedisUnavailable("closed")

    script = command


class _OneKey:
    async def load_by_digest(self, digest: bytes) -> Principal:
        return PRINCIPAL


class _Unlimited:
    """Admits and settles every call at once."""

    async def reserve(self, request: ReservationRequest) -> Reservation:
        return Reservation(
            request=request, hold_nanousd=1, worst_nanousd=1, tokens=1, headroom=UNLIMITED
        )

    async def settle(self, reservation: Reservation, event: CallRecord) -> None: ...
    async def release(self, reservation: Reservation) -> None: ...


class _Log(CallLog):
    """Takes lines as the worker's does, but writes none."""

    def __init__(self) -> None:
        super().__init__(stream=io.BytesIO())

    def write(self, line: CallLine) -> None:
        self._last = line


class Worker:
    """One worker with a model on one deployment, which a client may call on either wire."""

    def __init__(self) -> None:
        route = WireRoute(
            ORIGIN,
            "/v1",
            (
                (b"host", b"upstream.test"),
                (b"authorization", b"Bearer sk-upstream-0123456789"),
                (b"user-agent", b"capio-gateway/1"),
                (b"accept-encoding", b"identity"),
            ),
        )
        provider = a_provider()
        provider.wires[Wire.OPENAI] = route
        loop = Loop()  # type: ignore[abstract] # the pool uses no more of it
        self.pool = OriginPool(loop, ORIGIN, client_ssl_context())
        keys = KeyCache(
            cast("Any", _NoRedis()),
            cast("Any", _OneKey()),
            Keys(),
            "bench",
            count=lambda _: None,
            clock=lambda: 1.0,
        )
        self.bench = Bench(
            deployments=[a_deployment(provider)],
            reservations=_Unlimited(),
            keys=keys,
            transport=cast("Any", self.pool),
            call_log=_Log(),
        )
        nothing = cast("Any", None)
        self.edge = Edge(Inference(self.bench.proxy), nothing, nothing, nothing, nothing, nothing)

    async def call(self, path: str, body: bytes) -> int:
        """Serve one request in a task of its own, as the ASGI server does; return the status."""
        client = Client(path, body)
        await asyncio.ensure_future(self.edge.handle(client.scope, client.receive, client.send))
        client.close()
        return client.status

    async def short(self) -> None:
        """Serve a short request."""
        assert await self.call("/v1/chat/completions", BODY) == 200

    async def relayed(self) -> None:
        """Serve a stream of `CHUNKS` chunks."""
        assert await self.call("/v1/chat/completions", STREAM_BODY) == 200

    async def translated(self) -> None:
        """Serve a stream that is translated to the other wire."""
        assert await self.call("/v1/messages", MESSAGES_BODY) == 200


class Client:
    """The ASGI server's side of one request."""

    def __init__(self, path: str, body: bytes) -> None:
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "client": ("192.0.2.1", 4711),
            "headers": headers,
        }
        self.status = 0
        self._body: bytes | None = body
        self._loop = asyncio.get_running_loop()
        self._receiver: asyncio.Future[Message] | None = None

    def receive(self) -> asyncio.Future[Message]:
        receiver = self._loop.create_future()
        body, self._body = self._body, None
        if body is None:
            self._receiver = receiver
        else:
            message = {"type": "http.request", "body": body, "more_body": False}
            self._loop.call_soon(receiver.set_result, message)
        return receiver

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]

    def close(self) -> None:
        if self._receiver is not None:
            self._receiver.set_result({"type": "http.disconnect"})

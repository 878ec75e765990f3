"""Both sides of a call without sockets: scripted upstreams, and clients that may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from gateway.core.api_keys import digest, mint
from gateway.core.model import (
    CallRecord,
    Clocks,
    Deployment,
    Endpoint,
    Model,
    Origin,
    Prices,
    Principal,
    Provider,
    Wire,
    WireRoute,
)
from gateway.errors import GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel, Message
from gateway.pipeline.departure import Departure
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.ports import BodySink, Headers, UpstreamRequest
from gateway.telemetry.logs import CallLine, CallLog
from tests.support.waiting import wait_until

KEY_PREFIX = "sk-capio-live-"
RAW_KEY = mint(bytes(range(32)), KEY_PREFIX)
PRINCIPAL = Principal("key_1", "acct_1", "laptop", "active", 1)
CLOCKS = Clocks(connect_s=10, first_byte_s=600, first_content_s=120, idle_s=300, total_s=3600)
PRICES = Prices(
    input=1_000_000, output=2_000_000, cache_read=100_000, cache_write=0, reasoning=2_000_000
)
SSE: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]
OPENAI_BODY = b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}'
ANTHROPIC_BODY = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}'
PATHS = {
    Endpoint.CHAT_COMPLETIONS: "/v1/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.NATIVE_CHAT: "/v1/chat",
}


def json_head(body: bytes) -> Headers:
    """The headers of a JSON response of known length."""
    return [*JSON, (b"content-length", str(len(body)).encode())]


class FakeUpstreamResponse:
    """An upstream's response; the test pushes its body, `body` is there from the start."""

    def __init__(
        self, status: int = 200, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.status = status
        self.complete = False
        self.headers: Headers = list(SSE) if headers is None else headers
        self.sink: BodySink | None = None
        self.paused = False
        self.closed = False
        self.close_count = 0
        self.read_count = 0
        self.failure: GatewayError | None = None
        self.stalls = False
        """`read` never returns."""
        self._body = body

    def start(self, sink: BodySink) -> None:
        if not self.closed:
            self.sink = sink

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True
        self.close_count += 1
        self.sink = None

    async def read(self, limit_bytes: int) -> bytes:
        self.read_count += 1
        if self.stalls:
            await asyncio.get_running_loop().create_future()
        if self.failure is not None:
            raise self.failure
        assert len(self._body) <= limit_bytes
        return self._body

    async def push(self, *chunks: bytes) -> None:
        """Push bytes once a sink is set, one chunk per turn of the loop."""
        await wait_until(lambda: self.sink is not None or self.closed)
        for chunk in chunks:
            if self.sink is not None:
                self.sink.body_chunk(chunk)
            await asyncio.sleep(0)

    async def end(self, *chunks: bytes) -> None:
        """Bring the last bytes and the end."""
        await self.push(*chunks)
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.body_end()

    async def fail(self, error: GatewayError) -> None:
        """Break off."""
        await self.push()
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.body_failed(error)


Step = FakeUpstreamResponse | Exception | Callable[[], Awaitable[FakeUpstreamResponse]]


class ScriptedTransport:
    """Responds to requests in the order of its steps: a response, an exception or a coroutine."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[UpstreamRequest] = []
        self.cancelled_count = 0

    async def send(self, request: UpstreamRequest) -> FakeUpstreamResponse:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, FakeUpstreamResponse):
            return step
        if isinstance(step, Exception):
            raise step
        try:
            return await step()
        except asyncio.CancelledError:
            self.cancelled_count += 1
            raise

    async def aclose(self) -> None: ...


async def never() -> FakeUpstreamResponse:
    """A step: the head never comes."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


class FakeClient:
    """
    The client behind an ASGI channel.

    While `slow` is set, a written piece is taken only by `take`; its writer waits.
    """

    def __init__(
        self,
        path: str = "/v1/chat/completions",
        *body: bytes,
        headers: Headers | None = None,
        method: str = "POST",
        key: str | None = RAW_KEY,
    ) -> None:
        self.slow = False
        self.end_is_slow = False
        self.send_error: Exception | None = None
        self.status: int | None = None
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self.ended = False
        self.send_count = 0
        self._waiting: list[tuple[asyncio.Future[None], bytes]] = []
        self._pieces_in = list(body)
        self._receiver: asyncio.Future[Message] | None = None
        self._left = False
        given = [(b"authorization", b"Bearer " + key.encode())] if key else []
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "client": ("192.0.2.1", 4711),
            "headers": [*given, *(headers or [])],
        }

    @property
    def body(self) -> bytes:
        """What the client has got."""
        return b"".join(self.pieces)

    @property
    def waits(self) -> bool:
        """A piece waits to be taken."""
        return bool(self._waiting)

    def header(self, name: bytes) -> bytes | None:
        """A header of the response."""
        return dict(self.headers).get(name)

    def receive(self) -> asyncio.Future[Message]:
        """The body's pieces, then nothing until the client leaves."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._pieces_in:
            piece = self._pieces_in.pop(0)
            more = bool(self._pieces_in)
            future.set_result({"type": "http.request", "body": piece, "more_body": more})
        elif self._left:
            future.set_result({"type": "http.disconnect"})
        else:
            self._receiver = future
        return future

    def say(self, piece: bytes, *, more: bool) -> None:
        """Bring a piece of the body that `receive` waits for."""
        assert self._receiver is not None
        receiver, self._receiver = self._receiver, None
        receiver.set_result({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        """Go: what waits to be written is taken by nobody."""
        self._left = True
        for future, _ in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        """Take a message; a piece of the body only when the client is quick."""
        assert not self.ended, "a message after the end"
        self.send_count += 1
        if message["type"] == "http.response.start":
            assert self.status is None, "two heads"
            self.status, self.headers = message["status"], message["headers"]
            return
        assert self.status is not None, "a body without a head"
        if self.send_error is not None:
            raise self.send_error
        last = not message["more_body"]
        if (self.end_is_slow if last else self.slow) and not self._left:
            assert not self._waiting, "two writes at a time"
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((future, message["body"]))
            await future
        elif message["body"]:
            self.pieces.append(message["body"])
        self.ended = last

    async def take(self) -> None:
        """Take the piece that waits."""
        await wait_until(lambda: self._waiting)
        future, piece = self._waiting.pop()
        if piece:
            self.pieces.append(piece)
        if not future.done():
            future.set_result(None)
        await asyncio.sleep(0)

    def channel(self) -> ClientChannel:
        """The gateway's end."""
        return ClientChannel(self.scope, self.receive, self.send)


class MemoryUsageLog:
    """Keeps events; `gate` delays `append`."""

    def __init__(self) -> None:
        self.events: list[CallRecord] = []
        self.gate: asyncio.Event | None = None

    async def append(self, event: CallRecord) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.events.append(event)


class FakeKeys:
    """A directory of one key."""

    def __init__(self, principal: Principal = PRINCIPAL, *, cached: bool = True) -> None:
        self._known = {digest(RAW_KEY): principal}
        self._cached = cached
        self.lookup_count = 0

    def cached(self, digest: bytes) -> Principal | None:
        return self._known.get(digest) if self._cached else None

    async def lookup(self, digest: bytes) -> Principal | None:
        self.lookup_count += 1
        return self._known.get(digest)


class FakeCallLog(CallLog):
    """Keeps the lines, without a thread that writes them."""

    def __init__(self) -> None:
        # A log of the base class polls for ever in a thread, and there is one for each test.
        self.dropped = 0
        self.lines: list[dict[str, Any]] = []

    def write(self, line: CallLine) -> None:
        self.lines.append(line.fields())


class MemoryAnswered:
    """A shared cache of counts, a turn of the loop away."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    async def get(self, digest: str) -> bytes | None:
        await asyncio.sleep(0)
        return self.known.get(digest)

    def put(self, digest: str, answer: bytes, account_id: str) -> None:
        self.known[digest] = answer


def a_provider(
    name: str = "up",
    wires: Iterable[Wire] = (Wire.OPENAI,),
    *,
    clocks: Clocks = CLOCKS,
    drains: bool | None = False,
    **given: Any,
) -> Provider:
    """A provider at `<name>.test`."""
    origin = Origin(host=f"{name}.test", port=80, tls=False)
    base_paths = {Wire.OPENAI: "/v1", Wire.ANTHROPIC: ""}
    routes = {wire: WireRoute(origin, base_paths[wire], ((b"host", b"up.test"),)) for wire in wires}
    settings = {"dialect": "generic", "inject_usage": False, "caps": {}, **given}
    return Provider(name=name, wires=routes, clocks=clocks, drains=drains, **settings)


def a_deployment(provider: Provider, cost: Prices | None = None) -> Deployment:
    """The model's deployment at a provider."""
    return Deployment(provider, f"{provider.name}-m", tuple(provider.wires), {}, cost)


def a_model(*deployments: Deployment, prices: Prices = PRICES) -> Model:
    """The model `m`."""
    return Model("m", (), "M", 0, 100_000, 4_096, prices, deployments)


def openai_event(text: str) -> bytes:
    """A content chunk of a chat stream."""
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


OPENAI_FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
OPENAI_USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}\n\n'
)
OPENAI_DONE = b"data: [DONE]\n\n"
OPENAI_ERROR = b'data: {"error":{"message":"engine full","type":"server_error","code":null}}\n\n'
OPENAI_ANSWER = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"up-m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}'
)
COMMENT = b": wait\n\n"


def asking(body: bytes, **changes: object) -> bytes:
    """The request with further members, `stream=True` or `n=2`."""
    more = b"".join(
        b',"%b":%b' % (name.encode(), str(value).lower().encode())
        for name, value in changes.items()
    )
    return body[:-1] + more + b"}"


def a_context(
    call: Call,
    request: InboundRequest,
    headers: Headers,
    *,
    session_id: str | None = None,
    **changes: Any,
) -> CallContext:
    """The context of a call whose client sent `headers`."""
    channel = FakeClient(headers=headers, key=None).channel()
    departure = Departure(channel, cast("asyncio.Task[object]", None))
    return CallContext(
        call, request, channel, departure, request.release_body, session_id, 7, **changes
    )

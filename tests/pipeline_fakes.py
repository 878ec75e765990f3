"""Both sides of a call without sockets: upstreams that do as told, callers that may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.core.api_keys import digest, mint
from gateway.core.catalogue import Catalogue
from gateway.core.model import (
    Clocks,
    Deployment,
    Endpoint,
    Model,
    Origin,
    Prices,
    Principal,
    Provider,
    UsageEvent,
    Wire,
    WireRoute,
)
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.answer import Answers
from gateway.pipeline.attempt import Attempts
from gateway.pipeline.authenticate import Authenticator
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel, Message
from gateway.pipeline.counting import TokenCounts
from gateway.pipeline.exchange import Exchanges
from gateway.pipeline.finish import Recorder
from gateway.pipeline.proxy import Proxy
from gateway.pipeline.relay import Relay
from gateway.pipeline.watchdog import Watchdog
from gateway.ports import BodySink, Headers, UpstreamRequest
from gateway.protocols.translate.contract import StreamTranslator
from gateway.protocols.usage_hider import UsageHider
from gateway.protocols.usage_meter import StreamMeter
from gateway.settings import Server
from gateway.telemetry.logs import CallLine
from gateway.telemetry.metrics import CallMetrics, Metrics
from gateway.tokenize.counters import Counters
from tests.waiting import wait_until

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
    """The headers of a JSON answer of known length."""
    return [*JSON, (b"content-length", str(len(body)).encode())]


class FakeUpstreamResponse:
    """An upstream's answer; the test pushes its body, `body` is there from the start."""

    def __init__(
        self, status: int = 200, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.status = status
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
        """Bring bytes once somebody listens, one chunk per turn of the loop."""
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
    """Answers the requests in the order of its steps: a response, an exception, or a coroutine."""

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
    The caller behind an ASGI channel.

    While `slow` is set, a written piece is taken only by `take`; whoever wrote it waits.
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
        """What the caller has got."""
        return b"".join(self.pieces)

    @property
    def waits(self) -> bool:
        """A piece waits to be taken."""
        return bool(self._waiting)

    def header(self, name: bytes) -> bytes | None:
        """A header of the answer."""
        return dict(self.headers).get(name)

    def receive(self) -> asyncio.Future[Message]:
        """The body's pieces, then nothing until the caller leaves."""
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
        """Take a message; a piece of the body only when the caller is quick."""
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
    """Keeps events; `gate` holds up whoever appends."""

    def __init__(self) -> None:
        self.events: list[UsageEvent] = []
        self.gate: asyncio.Event | None = None

    async def append(self, event: UsageEvent) -> None:
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


class FakeCallLog:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[CallLine] = []

    def write(self, line: CallLine) -> None:
        self.lines.append(line)


class MemoryAnswered:
    """A shared cache of counts, a turn of the loop away."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    async def get(self, digest: str) -> bytes | None:
        await asyncio.sleep(0)
        return self.known.get(digest)

    def put(self, digest: str, answer: bytes) -> None:
        self.known[digest] = answer


def a_provider(
    name: str = "up",
    wires: Iterable[Wire] = (Wire.OPENAI,),
    *,
    clocks: Clocks = CLOCKS,
    drains: bool = False,
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


def a_model(*deployments: Deployment) -> Model:
    """The model `m`."""
    return Model("m", (), "M", 0, 100_000, 4_096, PRICES, deployments)


class Bench:
    """One worker's pipeline between fakes."""

    def __init__(
        self,
        *steps: Step,
        deployments: Iterable[Deployment] | None = None,
        limit: int = 10,
        principal: Principal = PRINCIPAL,
        stall_s: float = 5.0,
        error_s: float = 5.0,
        reservations: Any = None,
        idempotent: Any = None,
        server: Server | None = None,
    ) -> None:
        self.transport = ScriptedTransport(*steps)
        chosen = tuple(deployments or (a_deployment(a_provider()),))
        self.model = a_model(*chosen)
        providers = tuple(deployment.provider for deployment in chosen)
        self.catalogue = Catalogue("capio/", (self.model,), providers, {"m": self.model})
        self.metrics = CallMetrics(Metrics(CollectorRegistry()))
        self.usage_log = MemoryUsageLog()
        self.call_log = FakeCallLog()
        self.watchdog = Watchdog(lambda _: None)
        self.answered = MemoryAnswered()
        self.keys = FakeKeys(principal)
        self.authenticator = Authenticator(
            self.keys, KEY_PREFIX, idempotency=idempotent is not None
        )
        self.answers = Answers(self.watchdog, stall_s)
        attempts = Attempts(
            self.transport, Exchanges(self.catalogue), self.answers, self.metrics, error_s
        )
        self.attempts = attempts
        self.counts = TokenCounts(Counters({}), self.answered)
        self.proxy = Proxy(
            self.catalogue,
            self.authenticator,
            attempts=attempts,
            counts=self.counts,
            admission=Admission(limit, self.metrics, reservations),
            recorder=Recorder(self.usage_log, reservations, self.metrics, self.call_log),
            idempotent=idempotent,
            limits=server or Server(),
        )
        self.call_count = 0

    def begin(
        self, client: FakeClient, endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS
    ) -> tuple[Call, asyncio.Task[None]]:
        """Let a caller in."""
        self.call_count += 1
        call = Call(f"req_{self.call_count}", endpoint, endpoint.wire, monotonic())
        return call, asyncio.ensure_future(self.proxy.handle(call, client.channel()))

    async def run(self, client: FakeClient, endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS) -> Call:
        """Let a caller in and wait for the end."""
        call, task = self.begin(client, endpoint)
        await task
        return call

    def assert_recorded_once(self) -> None:
        """Each call has one line and at most one event, and nobody holds a place."""
        lines = [line.request_id for line in self.call_log.lines]
        events = [event.request_id for event in self.usage_log.events]
        assert len(lines) == len(set(lines)) == self.call_count
        assert len(events) == len(set(events))
        assert set(events) <= set(lines)
        assert self.metrics.in_flight == 0

    @property
    def event(self) -> UsageEvent:
        """The only event."""
        (event,) = self.usage_log.events
        return event


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


class Pump:
    """One relay between a fake upstream and a fake caller, both at hand."""

    def __init__(
        self,
        *,
        stream: bool = True,
        drains: bool = False,
        stall_s: float = 5.0,
        meter: Any = None,
        hider: UsageHider | None = None,
        translator: StreamTranslator | None = None,
        endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS,
    ) -> None:
        self.client = FakeClient()
        self.response = FakeUpstreamResponse()
        self.channel = self.client.channel()
        self.sent_at = monotonic()
        call = Call("req_1", endpoint, endpoint.wire, self.sent_at)
        call.deployment = a_deployment(a_provider(drains=drains))
        call.stream = stream
        call.sent_at = self.sent_at
        self.call = call
        self.meter = meter or StreamMeter(Wire.OPENAI)
        self.relay = Relay(
            call,
            self.channel,
            self.response,
            self.meter,
            shaper=hider,
            translator=translator,
            head=(200, list(SSE)),
            stall_s=stall_s,
        )
        self.response.start(self.relay)

    def check_after(self, seconds: float, clocks: Clocks = CLOCKS) -> None:
        """Let the clocks be looked at so many seconds after the request was sent."""
        self.relay.check(self.sent_at + seconds, clocks)

    @property
    def error(self) -> ErrorKind | None:
        """What the relay ended with; it must have ended."""
        error = self.relay.done.result()
        return error.kind if error is not None else None

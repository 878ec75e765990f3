"""The parts of a short request, each by itself, on the objects of `hot_path.Worker`."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import cast

from bench.hot.path import BODY, HEADERS, JSON_BODY, Client, Work, Worker
from gateway.core.model import Endpoint, Wire
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.departure import Departure
from gateway.pipeline.proxy import NATIVE_LIMITS
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.request.reading import parse_request
from gateway.pipeline.settlement import settle
from gateway.protocols.streams.json_meter import JsonMeter

CHAT = Endpoint.CHAT_COMPLETIONS
REQUEST_ID = "req_0123456789abcdef012300000001"


class Parts:
    """The parts, with what they share. Create it within the event loop's task."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._bench = bench = worker.bench
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._candidate = bench.router.route(bench.model, CHAT).candidates[0]
        channel = _channel()
        request = parse_request(CHAT, BODY, created=1, limits=NATIVE_LIMITS)
        departure = Departure(channel, self._task)
        call = self._call()
        self._context = CallContext(
            call, request, channel, departure, request.release_body, None, 1
        )

    def all(self) -> dict[str, Work]:
        """Return the parts by name, in the order of a request."""
        return {
            "client and channel": self.client,
            "authenticate": self.authenticate,
            "read the body": self.read_body,
            "decode": self.decode,
            "plan": self.plan,
            "prepare": self.prepare,
            "prepare and send": self.send,
            "meter": self.meter,
            "record": self.record,
        }

    async def client(self) -> None:
        """What the two parts below need in this benchmark only."""
        _channel()

    async def authenticate(self) -> None:
        await self._bench.authenticator.client(_channel())

    async def read_body(self) -> None:
        await _channel().read_body(100_000, 30.0, self._task)

    async def decode(self) -> None:
        parse_request(CHAT, BODY, created=1, limits=NATIVE_LIMITS)

    async def plan(self) -> None:
        router, model = self._bench.router, self._bench.model
        preferences = router.preferences(model, HEADERS)
        router.static_plan(model, CHAT)
        router.route(model, CHAT, preferences)

    async def prepare(self) -> None:
        await self._bench.builder.prepared(self._context, self._candidate)

    async def send(self) -> None:
        request, _ = await self._bench.builder.prepared(self._context, self._candidate)
        response = await self._worker.pool.send(request)
        await response.read(100_000)

    async def meter(self) -> None:
        meter = JsonMeter(Wire.OPENAI)
        meter.feed(JSON_BODY)
        assert meter.has_message
        assert meter.finish_reason
        assert meter.settled(10).input == 20

    async def record(self) -> None:
        call = self._call()
        attempt = call.begin_attempt(self._candidate.deployment, Wire.OPENAI, monotonic())
        attempt.finish_reason = "stop"
        call.ended_at = monotonic()
        settle(call)
        await self._bench.recorder.record(call)

    def _call(self) -> Call:
        call = Call(REQUEST_ID, CHAT, Wire.OPENAI, monotonic())
        call.model, call.model_asked, call.status = self._bench.model, "m", 200
        return call


def _channel() -> ClientChannel:
    client = Client("/v1/chat/completions", BODY)
    return ClientChannel(client.scope, client.receive, client.send)

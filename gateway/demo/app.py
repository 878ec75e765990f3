"""The demo upstream: chat in both dialects, token counts, embeddings, and faults on demand."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import msgspec

from gateway.demo import anthropic_wire, openai_wire, server
from gateway.demo.faults import HEADER, Fault, FaultError, FaultPlan, Rule, parse
from gateway.demo.playback import Dialect, Playback
from gateway.demo.record import Record, Served
from gateway.demo.requests import DemoRequest, decode, read_prompt
from gateway.demo.script import Script, read
from gateway.demo.server import Exchange, ScriptedServer, each_request

_ENDINGS = ("/chat/completions", "/messages", "/messages/count_tokens", "/embeddings")
_RULES = msgspec.json.Decoder(list[Rule])


class DemoUpstream:
    """
    Serves `/v1/chat/completions`, `/v1/messages`, `/v1/messages/count_tokens`, `/v1/embeddings`.

    On the same port, `/faults` (GET, PUT, DELETE) is the list of rules that inject faults, and
    `/served` (GET, DELETE) the record of what was served.

    Args:
        pace_s: Seconds between two tokens of a stream; 0.02 is typical of a model.
        plan: The faults of requests that specify none.
        report: Receives a line for each injected fault.
    """

    def __init__(
        self,
        pace_s: float = 0.02,
        plan: FaultPlan | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._pace_s = pace_s
        self._plan = plan or FaultPlan()
        self._report = report or (lambda _: None)
        self._ids = itertools.count(1)
        self._listeners: dict[str, tuple[ScriptedServer, int]] = {}
        self._reopening: set[asyncio.Task[None]] = set()
        self.record = Record()

    async def listen(self, deployment: str, port: int = 0) -> int:
        """Serve a deployment on a port of the loopback interface, and return the port."""

        async def handle(exchange: Exchange) -> None:
            await self._serve(deployment, exchange)

        def refuse_tls() -> None:
            self._report(f"fault tls -> {deployment}: a client expected TLS")

        listener = ScriptedServer(each_request(handle, refuse_tls))
        bound = await listener.listen(port)
        self._listeners[deployment] = (listener, bound)
        return bound

    async def aclose(self) -> None:
        """Stop listening and close all connections."""
        for task in tuple(self._reopening):
            task.cancel()
        for listener, _ in self._listeners.values():
            await listener.aclose()

    async def _serve(self, deployment: str, exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0]
        if path in ("/faults", "/served"):
            await exchange.send(self._administer(exchange.method, path, exchange.body))
            return
        dialect = "anthropic" if "/messages" in path else "openai"
        error = anthropic_wire.error if dialect == "anthropic" else openai_wire.error
        if not path.endswith(_ENDINGS) or exchange.method != "POST":
            await exchange.send(server.whole(error(404), 404))
            return
        if exchange.header("transfer-encoding"):
            # The server reads no chunked bodies, so where the next request begins is unknown.
            await exchange.send(server.whole(error(411), 411))
            exchange.close()
            return
        try:
            request = decode(exchange.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            await exchange.send(server.whole(error(400), 400))
            return
        if path.endswith("/embeddings"):
            rows = openai_wire.embeddings(request.model, bytes(request.input))
            await exchange.send(server.whole(rows))
            return
        try:
            script = read(read_prompt(request, exchange.body))
            fault = self._fault(deployment, exchange, request, script)
        except FaultError as wrong:
            text = msgspec.json.encode({"error": {"message": str(wrong)}})
            await exchange.send(server.whole(text, 400))
            return
        if path.endswith("/count_tokens"):
            await exchange.send(server.whole(anthropic_wire.token_count(script.input_tokens)))
            return
        served = Served(
            id=f"demo{next(self._ids):08d}",
            deployment=deployment,
            model=request.model,
            dialect="anthropic" if dialect == "anthropic" else "openai",
            streamed=bool(request.stream),
            fault=None if fault is None else str(fault),
        )
        await self._play(exchange, request, script, self.record.add(served), fault)

    def _fault(
        self, deployment: str, exchange: Exchange, request: DemoRequest, script: Script
    ) -> Fault | None:
        """Return the fault that the request specifies, or else the plan's."""
        specified = exchange.header(HEADER)
        if specified:
            return parse(specified[0])
        return script.fault or self._plan.choose(deployment, request.model)

    async def _play(
        self,
        exchange: Exchange,
        request: DemoRequest,
        script: Script,
        served: Served,
        fault: Fault | None,
    ) -> None:
        if fault is not None:
            how = "streamed" if served.streamed else "not streamed"
            self._report(
                f"fault {fault} -> {served.deployment} {served.model}, {how} ({served.id})"
            )
            if fault.kind == "refuse" and fault.for_s:
                self._close_for(served.deployment, fault.for_s)
        dialect: Dialect = anthropic_wire if served.dialect == "anthropic" else openai_wire
        options = request.stream_options
        playback = Playback(exchange, dialect, script, served, int(time.time()), self._pace_s)
        try:
            await playback.play(
                fault, with_usage=options is not None and bool(options.include_usage)
            )
        except ConnectionError:
            served.ending = "client_gone"
            raise

    def _close_for(self, deployment: str, seconds: float) -> None:
        listener, port = self._listeners[deployment]
        listener.stop_listening()

        async def reopen() -> None:
            await asyncio.sleep(seconds)
            await listener.listen(port)

        if not self._reopening:
            task = asyncio.ensure_future(reopen())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    def _administer(self, method: str, path: str, body: bytes) -> bytes:
        if path == "/served":
            if method == "DELETE":
                self.record.clear()
            return server.whole(self.record.as_json())
        if method in ("PUT", "DELETE"):
            try:
                rules = [] if method == "DELETE" else _RULES.decode(body)
            except msgspec.DecodeError as error:
                return _wrong_rules(f"{error}; send a list of rules, each with a `fault`")
            for rule in rules:
                if rule.deployment is not None and rule.deployment not in self._listeners:
                    known = ", ".join(self._listeners)
                    return _wrong_rules(f"deployment '{rule.deployment}' is unknown: use {known}")
            self._plan.rules = rules
        return server.whole(msgspec.json.encode(self._plan.rules))


def _wrong_rules(problem: str) -> bytes:
    body = {"error": {"message": f"faults: {problem}"}}
    return server.whole(msgspec.json.encode(body), 400)

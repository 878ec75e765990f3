"""A worker's pipeline, or one relay of it, set up between the fakes of `pipeline_fakes`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from gateway.core.catalogue import Catalogue
from gateway.core.model import (
    CallRecord,
    Clocks,
    Deployment,
    Endpoint,
    HedgeRules,
    Model,
    Prices,
    Principal,
    Wire,
)
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.health import HealthRules
from gateway.core.routing.hedging import Hedging
from gateway.core.routing.retries import RetryBudget, RetryLimits
from gateway.errors import ErrorKind
from gateway.pipeline.admission import Admission
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.call import Call
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.intake import Intake
from gateway.pipeline.client.writer import ResponseHead
from gateway.pipeline.execution.runner import CallExecution
from gateway.pipeline.proxy import Proxy, Retention
from gateway.pipeline.record import Recorder
from gateway.pipeline.request.builder import RequestBuilder
from gateway.pipeline.response.clocks import ClientClocks
from gateway.pipeline.response.early_head import EarlyHeads
from gateway.pipeline.response.relay import Relay
from gateway.pipeline.response.sender import ResponseSender
from gateway.pipeline.response.watchdog import Watchdog
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.probe_rights import ProbeRights
from gateway.pipeline.routing.router import Router
from gateway.pipeline.routing.worker import AttemptPolicy
from gateway.pipeline.running import RunningCalls
from gateway.pipeline.token_counts import TokenCounter
from gateway.ports import KeyDirectory, Transport
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.streams.relayed import RelayedStream, Unchanged
from gateway.protocols.streams.transform import StreamTransform
from gateway.settings import Server
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.logs import CallLog
from gateway.telemetry.metrics import Metrics
from gateway.tokens.counters import Counters
from tests.support.pipeline_fakes import (
    CLOCKS,
    KEY_PREFIX,
    PRICES,
    PRINCIPAL,
    SSE,
    FakeCallLog,
    FakeClient,
    FakeKeys,
    FakeUpstreamResponse,
    MemoryAnswered,
    MemoryUsageLog,
    ScriptedTransport,
    Step,
    a_deployment,
    a_model,
    a_provider,
)

NO_RETRIES = RetryLimits(retries=0)


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
        stored: Any = None,
        server: Server | None = None,
        credit: Any = None,
        prices: Prices = PRICES,
        retries: RetryLimits = NO_RETRIES,
        health: HealthRules = HealthRules(),  # noqa: B008 - frozen
        choices: bool = True,
        models: Iterable[Model] = (),
        fallbacks: tuple[str, ...] = (),
        budget: RetryBudget | None = None,
        credentials: dict[str, CredentialRotation] | None = None,
        hedge: HedgeRules | None = None,
        policy: str | None = None,
        keys: KeyDirectory | None = None,
        transport: Transport | None = None,
        call_log: CallLog | None = None,
    ) -> None:
        self.transport = ScriptedTransport(*steps)
        chosen = tuple(deployments or (a_deployment(a_provider()),))
        self.model = msgspec.structs.replace(
            a_model(*chosen, prices=prices), fallbacks=fallbacks, hedge=hedge, policy=policy
        )
        self.models = (self.model, *models)
        names = {model.name: model for model in self.models}
        providers = tuple(each.provider for model in self.models for each in model.deployments)
        self.catalogue = Catalogue("capio/", self.models, providers, names)
        self.metrics = CallMetrics(Metrics(CollectorRegistry()))
        self.usage_log = MemoryUsageLog()
        self.call_log = FakeCallLog()
        self.watchdog = Watchdog()
        self.answered = MemoryAnswered()
        self.keys = FakeKeys(principal)
        self.authenticator = Authenticator(
            keys or self.keys, KEY_PREFIX, idempotency=idempotent is not None
        )
        self.answers = ResponseSender(self.watchdog, Server(send_stall_s=stall_s))
        self.budget = budget or RetryBudget(20, 10)
        self.board = HealthBoard(health, "worker-1")
        self.board.keep(self.catalogue)
        self.hedging = Hedging()
        attempt_policy = AttemptPolicy(
            retries,
            self.budget,
            self.board,
            credentials or {},
            draw=lambda: 1.0,
            hedging=self.hedging,
        )
        self.builder = RequestBuilder(self.catalogue)
        attempts = AttemptRunner(
            transport or self.transport,
            self.builder,
            self.answers,
            self.metrics,
            attempt_policy,
            error_s,
        )
        self.attempts = attempts
        self.router = Router(
            self.catalogue,
            self.board,
            preferences=choices,
            fallbacks=choices,
            rights=ProbeRights(None),
            draw=lambda: 0.0,
        )
        self.counts = TokenCounter(Counters({}), self.answered)
        self.running = RunningCalls()
        self.early_heads = EarlyHeads(server or Server())
        self.intake = Intake(server or Server(), self.metrics, credit)
        admission = Admission(limit, self.metrics, reservations)
        self.recorder = Recorder(
            self.usage_log, reservations, self.metrics, call_log or self.call_log
        )
        self.proxy = Proxy(
            self.catalogue,
            self.authenticator,
            execution=CallExecution(
                self.router, attempts, self.counts, admission, self.early_heads
            ),
            admission=admission,
            intake=self.intake,
            recorder=self.recorder,
            retention=Retention(idempotent, stored),
            running=self.running,
        )
        self.call_count = 0

    def begin(
        self, client: FakeClient, endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS
    ) -> tuple[Call, asyncio.Task[None]]:
        """Let a client in."""
        self.call_count += 1
        call = Call(f"req_{self.call_count}", endpoint, endpoint.wire, monotonic())
        return call, asyncio.ensure_future(self.proxy.handle(call, client.channel()))

    async def run(self, client: FakeClient, endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS) -> Call:
        """Let a client in and wait for the end."""
        call, task = self.begin(client, endpoint)
        await task
        return call

    def assert_recorded_once(self) -> None:
        """Each call has one line and at most one event, and nobody holds a place."""
        lines = [line["request_id"] for line in self.call_log.lines]
        events = [event.request_id for event in self.usage_log.events]
        assert len(lines) == len(set(lines)) == self.call_count
        assert len(events) == len(set(events))
        assert set(events) <= set(lines)
        assert self.metrics.in_flight == 0
        assert (self.intake.body_bytes, self.intake.accounts) == (0, 0)

    @property
    def event(self) -> CallRecord:
        """The only event."""
        (event,) = self.usage_log.events
        return event


class Pump:
    """One relay between a fake upstream and a fake client, both at hand."""

    def __init__(
        self,
        *,
        stream: bool = True,
        drains: bool | None = False,
        stall_s: float = 5.0,
        meter: Any = None,
        transform: StreamTransform | None = None,
        endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS,
        keepalive_s: float = 15.0,
    ) -> None:
        self.client = FakeClient()
        self.response = FakeUpstreamResponse()
        self.channel = self.client.channel()
        self.sent_at = monotonic()
        call = Call("req_1", endpoint, endpoint.wire, self.sent_at)
        deployment = a_deployment(a_provider(drains=drains))
        self.attempt = call.begin_attempt(deployment, endpoint.wire, self.sent_at)
        call.stream = stream
        self.call = call
        self.meter = meter or StreamMeter(Wire.OPENAI)
        relayed = RelayedStream(endpoint.wire, "m", hides_usage=False)
        self.transform = transform or (relayed if stream else Unchanged())
        self.relay = Relay(
            call,
            self.attempt,
            self.channel,
            self.response,
            self.meter,
            self.transform,
            head=ResponseHead(200, list(SSE), lambda: None),
            clocks=ClientClocks(stall_s, keepalive_s),
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

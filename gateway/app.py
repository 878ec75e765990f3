"""
The composition root: builds all objects of one worker process.

`gateway.worker` starts and stops them; an `AsyncExitStack` closes what was opened here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack

from gateway import __version__
from gateway.core.catalogue import Catalogue
from gateway.core.routing.live import EVERY_S, MAX_PROBLEMS, LiveReport
from gateway.edge.account_api import AccountApi
from gateway.edge.asgi import Edge
from gateway.edge.handover import AdminHandover, Handover
from gateway.edge.inference import Inference
from gateway.edge.models import ModelsApi
from gateway.edge.probes import Probes
from gateway.edge.responses_api import ResponsesApi
from gateway.errors import GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.intake import Intake
from gateway.pipeline.execution.runner import CallExecution
from gateway.pipeline.idempotency import Idempotent
from gateway.pipeline.overload.early_refusal import EarlyRefusal
from gateway.pipeline.overload.lag_sampler import LagSampler
from gateway.pipeline.proxy import Proxy, Retention
from gateway.pipeline.record import Recorder
from gateway.pipeline.request.builder import RequestBuilder
from gateway.pipeline.response.early_head import EarlyHeads
from gateway.pipeline.response.sender import ResponseSender
from gateway.pipeline.response.watchdog import Watchdog
from gateway.pipeline.routing.worker import WorkerRouting
from gateway.pipeline.running import RunningCalls
from gateway.pipeline.stored.keeper import StoredResponses
from gateway.pipeline.token_counts import TokenCounter
from gateway.pipeline.tracing.call_trace import Tracer
from gateway.protocols.http.forwarded import TrustedProxies
from gateway.settings import Secrets, Settings, Telemetry
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.catalogue.follower import CatalogueFollower, ChangeListener, ServedEntries
from gateway.store.catalogue.records import CatalogueRecords
from gateway.store.catalogue.shared import SharedCatalogue
from gateway.store.health.live import LiveReports
from gateway.store.health.probes import RedisProbes
from gateway.store.health.shared import RedisHealth, health_channel
from gateway.store.hot_state.count_cache import CountCache
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.idempotency.records import IdempotencyRecords, idempotency_scripts
from gateway.store.keys.cache import KeyCache
from gateway.store.keys.entry import channel_name, key_entry_script
from gateway.store.keys.repository import Keys
from gateway.store.limits.metering import Metering
from gateway.store.redis.address import redis_address
from gateway.store.redis.client import RedisLimits, RedisState
from gateway.store.redis.cluster.kinds import pipelined_client, subscription
from gateway.store.responses.records import ResponseRecords, response_scripts
from gateway.store.spill.direct import DirectBooking
from gateway.store.sql.database import Database
from gateway.telemetry import logs
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces.sender import TraceSender, socket_path
from gateway.tokens.counters import Counters
from gateway.upstream.transport import UpstreamTransport

_PUBLISH_EVERY_S = 1.0
_PROBE_SQL_EVERY_S = 5.0


class Stores:
    """
    Redis, SQL and what a worker keeps in them.

    Args:
        settings: Checked settings.
        secrets: Passwords of the stores.
        stack: Closes what `start` opened.
    """

    def __init__(self, settings: Settings, secrets: Secrets, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.metrics = Metrics()
        self.call_metrics = CallMetrics(self.metrics)
        prefix = settings.redis.key_prefix
        target = redis_address(settings, secrets, "capio-worker")
        self.redis = pipelined_client(
            target,
            RedisLimits(command_timeout_s=settings.redis.command_timeout_ms / 1000),
            scripts=[
                *(key_entry_script(), *idempotency_scripts(), *response_scripts()),
                *account_scripts().all(),
            ],
            observe=lambda seconds, _: self.metrics.bus_latency.observe(seconds),
            on_state=self._redis_state_changed,
        )
        self.database = Database(settings, secrets.sql_password)
        self.database.load()  # before streams depend on the event loop
        self.key_records = Keys(self.database, settings.brand.key_prefix)
        self.keys = KeyCache(
            self.redis,
            self.key_records,
            settings.keys,
            prefix,
            count=lambda source: self.metrics.key_lookups.labels(source).inc(),
        )
        self.catalogue = CatalogueFollower(
            CatalogueRecords(self.database), SharedCatalogue(self.redis, prefix)
        )
        listener = ChangeListener(self.keys, self.catalogue)
        self._subscription = subscription(self.redis, target, channel_name(prefix), listener)
        self.health = RedisHealth(self.redis, prefix)
        self._health_subscription = subscription(
            self.redis, target, health_channel(prefix), self.health
        )
        self._metering: Metering | None = None
        self._settings = settings

    @property
    def metering(self) -> Metering:
        """What admits, charges and records calls; available after `start`."""
        assert self._metering is not None
        return self._metering

    async def start(self) -> None:
        """Connect to Redis and start the background tasks."""
        self._stack.push_async_callback(self.redis.aclose)
        await self.redis.start()
        self._stack.push_async_callback(self.database.aclose)
        self._stack.push_async_callback(self.keys.aclose)
        self._stack.push_async_callback(self.catalogue.aclose)
        self._stack.push_async_callback(self._subscription.aclose)
        self._stack.push_async_callback(self._health_subscription.aclose)
        await self._subscription.start()
        accounts = AccountRepository(self.database)
        direct = DirectBooking(self.database.transactions(), self.metrics)
        self._stack.push_async_callback(direct.aclose)
        metering = Metering(
            self.redis, accounts, self._settings, self.metrics, self.call_metrics, direct=direct
        )
        self._stack.push_async_callback(metering.aclose)
        metering.start()
        self._metering = metering

    async def share_health(self) -> None:
        """Start receiving health changes from other workers; call it once a catalogue is built."""
        await self._health_subscription.start()

    def _redis_state_changed(self, state: RedisState) -> None:
        """Resend what Redis may have missed once it is available again."""
        if state is RedisState.READY and self._metering is not None:
            self._metering.redis_returned()


class EdgeBuilder:
    """
    Builds the edge for a catalogue, from objects that outlive every catalogue.

    Args:
        settings: Checked settings.
        counters: Vocabularies for token counts.
        stores: Started.
        stack: Closes what is opened here.
        draining: Returns whether the worker is to get no new clients.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        stores: Stores,
        stack: AsyncExitStack,
        draining: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._draining = draining
        self.running = RunningCalls()
        self.entries = ServedEntries(stores.metrics.catalogue_rejected.set)
        metering = stores.metering
        call_log = logs.CallLog(settings.server.log_format, pod=logs.pod_name())
        stack.callback(call_log.close)
        traces = _trace_sender(settings, stores.metrics, stack)
        self._tracer = _tracer(settings.telemetry)
        self._transport = UpstreamTransport()
        stack.push_async_callback(self._transport.aclose)
        self._handover = Handover.create(settings, self._transport)
        self._admin = AdminHandover.create(settings, self._transport)
        sampler = stack.enter_context(
            LagSampler(settings.server.max_loop_lag_ms / 1000, stores.metrics.loop_lag.observe)
        )
        watchdog = stack.enter_context(Watchdog())
        self._early_heads = stack.enter_context(EarlyHeads(settings.server))
        probes = RedisProbes(stores.redis.command, settings.redis.key_prefix)
        self._routing = WorkerRouting(settings.routing, self._transport, stores.health, probes)
        stores.health.listen(self._routing.board.learn, self._routing.board.recall)
        if self._routing.asked is not None:
            stores.health.on_probe = self._routing.asked.received
        self._routing.start()
        stack.push_async_callback(self._routing.aclose)
        publishing = asyncio.create_task(
            _publish_counters(stores, self._transport, call_log, self._routing)
        )
        stack.push_async_callback(_cancel, publishing)
        probing = asyncio.create_task(_probe_sql(stores.database))
        stack.push_async_callback(_cancel, probing)
        live = LiveReports(stores.redis, settings.redis.key_prefix)
        stack.push_async_callback(_cancel, asyncio.create_task(_publish_live_calls(live, self)))
        self._authenticator = Authenticator(
            stores.keys, settings.brand.key_prefix, idempotency=settings.idempotency.enabled
        )
        self._sender = ResponseSender(
            watchdog, settings.server, show_provider=settings.routing.show_provider
        )
        self._counts = TokenCounter(counters, CountCache(stores.redis, settings.redis.key_prefix))
        self._admission = Admission(
            settings.server.max_in_flight, stores.call_metrics, metering.reservations, sampler.turns
        )
        self._intake = Intake(settings.server, stores.call_metrics, metering.credit)
        self._recorder = Recorder(
            metering.journal, metering.reservations, stores.call_metrics, call_log, traces
        )
        self._retention = Retention(
            _idempotent(settings, stores, stack), _stored_responses(settings, stores)
        )

    def edge(self, catalogue: Catalogue) -> Edge:
        """Return the edge that serves the models of `catalogue`."""
        request_builder = RequestBuilder(catalogue)
        policy = self._routing.policy(catalogue, request_builder.limit_fields())
        attempts = AttemptRunner(
            self._transport, request_builder, self._sender, self._stores.call_metrics, policy
        )
        router = self._routing.router(catalogue)
        proxy = Proxy(
            catalogue,
            self._authenticator,
            execution=CallExecution(
                router, attempts, self._counts, self._admission, self._early_heads
            ),
            admission=self._admission,
            intake=self._intake,
            recorder=self._recorder,
            retention=self._retention,
            running=self.running,
        )
        stores, stored = self._stores, self._retention.stored
        return Edge(
            Inference(proxy, TrustedProxies(self._settings.server.trusted_proxies), self._tracer),
            ModelsApi(catalogue, self._authenticator),
            AccountApi(
                self._authenticator,
                stores.database,
                stores.metering.accounts,
                show_provider=self._settings.routing.show_provider,
            ),
            self._admin,
            Probes(self._settings.brand, stores.redis, self._draining),
            ResponsesApi(self._authenticator, stored.conversations if stored else None),
            self._handover,
            EarlyRefusal(self._admission.exceeded, stores.call_metrics),
        )


def _tracer(telemetry: Telemetry) -> Tracer:
    return Tracer(
        None if telemetry.otlp_endpoint is None else telemetry.sample_ratio,
        follows_clients=telemetry.follow_client_sampling,
        sends=telemetry.send_trace_context,
    )


def _trace_sender(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> TraceSender | None:
    if settings.telemetry.otlp_endpoint is None:
        return None
    sender = TraceSender(
        socket_path(settings.server.data_dir), metrics.traces.labels("dropped").inc
    )
    stack.callback(sender.close)
    return sender


def _idempotent(settings: Settings, stores: Stores, stack: AsyncExitStack) -> Idempotent | None:
    if not settings.idempotency.enabled:
        return None
    results = stores.metrics.idempotency
    records = IdempotencyRecords(
        stores.redis,
        settings.idempotency,
        settings.redis.key_prefix,
        count=lambda result: results.labels(result).inc(),
    )
    stack.push_async_callback(records.aclose)
    records.start()
    return Idempotent(records, settings.idempotency.max_response_bytes)


def _stored_responses(settings: Settings, stores: Stores) -> StoredResponses | None:
    if not settings.responses.store_ttl_s:
        return None
    results = stores.metrics.stored_responses
    return StoredResponses(
        ResponseRecords(stores.redis, settings.responses, settings.redis.key_prefix),
        settings.responses.max_response_bytes,
        lambda result: results.labels(result).inc(),
    )


async def _publish_counters(
    stores: Stores,
    transport: UpstreamTransport,
    call_log: logs.CallLog,
    routing: WorkerRouting,
) -> None:
    """Copy what is counted outside of prometheus_client to its metrics, once per second."""
    redis, metrics, call_metrics = stores.redis, stores.metrics, stores.call_metrics
    dropped = failed = 0
    try:
        while True:
            idle = transport.idle_connections
            metrics.upstream_connections.labels("idle").set(idle)
            metrics.upstream_connections.labels("busy").set(transport.open_connections - idle)
            metrics.log_lines_dropped.inc(call_log.dropped - dropped)
            dropped = call_log.dropped
            metrics.redis_unavailable.set(0 if redis.state is RedisState.READY else 1)
            metrics.sql_unavailable.set(0 if stores.database.is_available else 1)
            metrics.bus_failures.inc(redis.failed_total - failed)
            failed = redis.failed_total
            call_metrics.flush()
            routing.flush(metrics)
            await asyncio.sleep(_PUBLISH_EVERY_S)
    finally:
        call_metrics.flush()


async def _probe_sql(database: Database) -> None:
    """Ping an unavailable database until it responds, since an idle worker sends no queries."""
    while True:
        await asyncio.sleep(_PROBE_SQL_EVERY_S)
        if not database.is_available:
            with contextlib.suppress(GatewayError):
                await database.ping()


async def _publish_live_calls(reports: LiveReports, builder: EdgeBuilder) -> None:
    """Publish the running calls, every `EVERY_S` and after changes, until cancelled."""
    worker, pod, version = secrets.token_hex(8), logs.pod_name(), __version__
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await builder.entries.changed.wait()
            builder.entries.changed.clear()
            reports.publish(
                LiveReport(
                    worker=worker,
                    pod=pod,
                    version=version,
                    running=len(builder.running),
                    lines=builder.running.live(),
                    catalogue=builder.entries.revision,
                    problems=tuple(builder.entries.problems[:MAX_PROBLEMS]),
                )
            )
    finally:
        reports.withdraw(worker)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])

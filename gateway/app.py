"""
Builds everything that one worker is made of, and takes it down again. The only place that does.

Granian loads a `Worker` in each worker process and calls it as an ASGI application; the lifespan
messages start and stop it on the worker's own loop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.core.catalogue import Catalogue, build
from gateway.edge.account_api import AccountApi
from gateway.edge.admin_accounts import AdminAccounts
from gateway.edge.admin_api import AdminApi
from gateway.edge.admin_keys import AdminKeys
from gateway.edge.admin_records import AdminRecords
from gateway.edge.asgi import Edge
from gateway.edge.models import ModelsApi
from gateway.edge.probes import Probes
from gateway.pipeline.admission import Admission
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.channel import Receive, Send
from gateway.pipeline.client.intake import Intake
from gateway.pipeline.idempotency import Idempotent
from gateway.pipeline.proxy import Proxy
from gateway.pipeline.record import Recorder
from gateway.pipeline.request.exchange import RequestBuilder
from gateway.pipeline.response.sender import ResponseSender
from gateway.pipeline.response.watchdog import Watchdog
from gateway.pipeline.token_counts import TokenCounter
from gateway.settings import Secrets, Settings, resolve_secrets
from gateway.settings.embedded import redis_url
from gateway.signals import obey_ending_signals
from gateway.store.accounts.snapshot import SqlAccounts
from gateway.store.hot_state.count_cache import CountCache
from gateway.store.hot_state.redis_schema import account_scripts
from gateway.store.idempotency.records import IdempotencyRecords, idempotency_scripts
from gateway.store.keys.cache import KeyCache
from gateway.store.keys.entry import channel_name, key_entry_script
from gateway.store.keys.repository import Keys
from gateway.store.limits.metering import Metering
from gateway.store.redis.address import RedisTarget, read_target
from gateway.store.redis.client import RedisClient, RedisLimits, RedisState
from gateway.store.redis.pubsub import Subscription
from gateway.store.sql.database import Database
from gateway.telemetry import logs
from gateway.telemetry.metrics import CallMetrics, Metrics, fix_process
from gateway.tokens.counters import Counters
from gateway.upstream.transport import UpstreamTransport

log = logging.getLogger("gateway.app")

_SERVING_S = 0.2
"""From the end of the start to the first request: Granian can be told to stop only then."""
_GC_THRESHOLDS = (20_000, 20, 50)
"""A call leaves no cycles behind: looking for them 30 times less often saves 4 % of its CPU."""


class Stores(NamedTuple):
    """What a worker keeps outside of itself, and where it counts."""

    bus: RedisClient
    database: Database
    keys: KeyCache
    till: Metering
    metrics: Metrics
    call_metrics: CallMetrics


class Parts(NamedTuple):
    """What calls go through, whatever the catalogue is; made once."""

    authenticator: Authenticator
    transport: UpstreamTransport
    answers: ResponseSender
    counts: TokenCounter
    admission: Admission
    intake: Intake
    recorder: Recorder
    idempotent: Idempotent | None


class Worker:
    """
    The ASGI application of one worker process.

    Args:
        settings: Checked.
        counters: Vocabularies for token counts.
        runtime: Where the supervisor leaves newer settings before it sends SIGHUP. Models,
            providers and prices are taken from there without an end of anything that runs; the
            other sections count from the next start.
    """

    def __init__(self, settings: Settings, counters: Counters, runtime: Path | None = None) -> None:
        self._settings = settings
        self._counters = counters
        self._runtime = runtime
        self._admin_token: str | None = None
        self._stack = AsyncExitStack()
        self._edge: Edge | None = None
        self._metering: Metering | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or follow the worker's life."""
        if scope["type"] == "http" and self._edge is not None:
            await self._edge.handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if not await self._started():
                    await send({"type": "lifespan.startup.failed"})
                    return
                await send({"type": "lifespan.startup.complete"})
                asyncio.get_running_loop().call_later(_SERVING_S, obey_ending_signals)
            elif message["type"] == "lifespan.shutdown":
                await self._stack.aclose()
                log.info("worker_stopped")
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _started(self) -> bool:
        """Start, and tell whether that worked: a worker that did not must end, not answer 500."""
        try:
            await self._start()
        except Exception:  # the root of a worker's life
            log.exception("worker_start_failed")
            await self._stack.aclose()
            return False
        return True

    async def _start(self) -> None:
        logs.configure()
        fix_process(os.getpid())
        settings, metrics = self._settings, Metrics()
        secrets = resolve_secrets(settings, os.environ, _read_text)
        catalogue = build(settings, secrets.providers)
        stores = await self._open_stores(settings, secrets, metrics)
        self._admin_token = secrets.admin_token
        parts = self._make_parts(stores)
        self._edge = self._assemble(catalogue, stores, parts)
        if self._runtime is not None:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGHUP, self._reload, self._runtime, stores, parts
            )
            self._reload(self._runtime, stores, parts)
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        log.info("worker_started", extra={"models": len(catalogue.models)})

    def _reload(self, runtime: Path, stores: Stores, parts: Parts) -> None:
        """Put a new catalogue in use; calls that run keep theirs, a mistake keeps the old one."""
        try:
            settings = msgspec.json.decode(runtime.read_bytes(), type=Settings)
            if settings == self._settings:
                return
            secrets = resolve_secrets(settings, os.environ, _read_text)
            edge = self._assemble(build(settings, secrets.providers), stores, parts)
        except Exception:  # the root of a reload
            log.exception("reload_failed")
            return
        self._settings, self._edge = settings, edge
        log.info("reloaded", extra={"models": len(settings.models)})

    async def _open_stores(self, settings: Settings, secrets: Secrets, metrics: Metrics) -> Stores:
        target = _redis_target(settings, secrets)
        limits = RedisLimits(command_timeout_s=settings.redis.command_timeout_ms / 1000)
        bus = RedisClient(
            target,
            limits,
            scripts=[key_entry_script(), *idempotency_scripts(), *account_scripts().all()],
            observe=lambda seconds, _: metrics.bus_latency.observe(seconds),
            on_state=self._bus_state,
        )
        self._stack.push_async_callback(bus.aclose)
        await bus.start()
        database = Database(settings, secrets.sql_password)
        self._stack.push_async_callback(database.aclose)
        prefix = settings.redis.key_prefix
        keys = KeyCache(
            bus,
            Keys(database, settings.brand.key_prefix),
            settings.keys,
            prefix,
            count=lambda source: metrics.key_lookups.labels(source).inc(),
        )
        self._stack.push_async_callback(keys.aclose)
        subscription = Subscription(target, channel_name(prefix), keys)
        self._stack.push_async_callback(subscription.aclose)
        await subscription.start()
        call_metrics = CallMetrics(metrics)
        till = Metering(bus, SqlAccounts(database), settings, metrics, call_metrics)
        self._stack.push_async_callback(till.aclose)
        till.start()
        self._metering = till
        return Stores(bus, database, keys, till, metrics, call_metrics)

    def _bus_state(self, state: RedisState) -> None:
        """Tell Redis, when it is back, what it may have missed."""
        if state is RedisState.READY and self._metering is not None:
            self._metering.redis_returned()

    def _make_parts(self, stores: Stores) -> Parts:
        settings, till = self._settings, stores.till
        call_log = logs.CallLog()
        self._stack.callback(call_log.close)
        transport = UpstreamTransport()
        self._stack.push_async_callback(transport.aclose)
        watchdog = Watchdog(stores.metrics.loop_lag.observe)
        watchdog.start()
        self._stack.callback(watchdog.stop)
        shown = asyncio.create_task(_show(stores, transport, call_log))
        self._stack.push_async_callback(_end_task, shown)
        counts = TokenCounter(self._counters, CountCache(stores.bus, settings.redis.key_prefix))
        return Parts(
            Authenticator(
                stores.keys, settings.brand.key_prefix, idempotency=settings.idempotency.enabled
            ),
            transport,
            ResponseSender(watchdog, settings.server.send_stall_s),
            counts,
            Admission(settings.server.max_in_flight, stores.call_metrics, till.reservations),
            Intake(settings.server, stores.call_metrics, till.credit),
            Recorder(till.journal, till.reservations, stores.call_metrics, call_log),
            self._idempotent(stores),
        )

    def _assemble(self, catalogue: Catalogue, stores: Stores, parts: Parts) -> Edge:
        settings, till = self._settings, stores.till
        proxy = Proxy(
            catalogue,
            parts.authenticator,
            attempts=AttemptRunner(
                parts.transport, RequestBuilder(catalogue), parts.answers, stores.call_metrics
            ),
            counts=parts.counts,
            admission=parts.admission,
            intake=parts.intake,
            recorder=parts.recorder,
            idempotent=parts.idempotent,
        )
        return Edge(
            proxy,
            ModelsApi(catalogue, parts.authenticator),
            AccountApi(parts.authenticator, stores.database, till.accounts),
            self._admin_pages(catalogue, stores),
            Probes(settings.brand, stores.bus),
        )

    def _idempotent(self, stores: Stores) -> Idempotent | None:
        settings = self._settings.idempotency
        if not settings.enabled:
            return None
        results = stores.metrics.idempotency
        records = IdempotencyRecords(
            stores.bus,
            settings,
            self._settings.redis.key_prefix,
            count=lambda result: results.labels(result).inc(),
        )
        self._stack.push_async_callback(records.aclose)
        records.start()
        return Idempotent(records, settings.max_response_bytes)

    def _admin_pages(self, catalogue: Catalogue, stores: Stores) -> AdminApi:
        database = stores.database
        table = Keys(database, self._settings.brand.key_prefix)
        return AdminApi(
            self._admin_token,
            [
                *AdminAccounts(database, stores.till.accounts).routes(),
                *AdminKeys(table, stores.keys, catalogue).routes(),
                *AdminRecords(database).routes(),
            ],
            allow_forwarded=self._settings.admin.allow_forwarded,
        )


async def _show(stores: Stores, transport: UpstreamTransport, call_log: logs.CallLog) -> None:
    """Once a second, and at the end, hand on what is counted elsewhere."""
    bus, metrics, call_metrics = stores.bus, stores.metrics, stores.call_metrics
    shown = failed = 0
    try:
        while True:
            idle = transport.idle_connections
            metrics.upstream_connections.labels("idle").set(idle)
            metrics.upstream_connections.labels("busy").set(transport.open_connections - idle)
            metrics.log_lines_dropped.inc(call_log.dropped - shown)
            shown = call_log.dropped
            metrics.bus_failures.inc(bus.failed_total - failed)
            failed = bus.failed_total
            call_metrics.flush()
            await asyncio.sleep(1.0)
    finally:
        call_metrics.flush()


async def _end_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _redis_target(settings: Settings, secrets: Secrets) -> RedisTarget:
    url = redis_url(settings)
    return read_target(url, password=secrets.redis_password, client_name="capio-worker")


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")

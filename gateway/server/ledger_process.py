"""
The ledger process: moves usage events to SQL, purges old ones hourly and publishes gauges.

The supervisor runs it as `python -m gateway.server.ledger_process SETTINGS`, where SETTINGS is the
file with the checked settings as JSON; `capio ledger` calls `run_ledger`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings, Wanted, read_text, resolve_secrets
from gateway.settings.embedded import is_sql_embedded
from gateway.signals import end_with_parent
from gateway.store.accounts.reconcile import reconcile
from gateway.store.accounts.reconcile_runs import MAX_SHOWN, ReconcileRun, ReconcileRuns
from gateway.store.redis.address import RedisAddress, redis_address
from gateway.store.redis.cluster.kinds import ask_kind, cold_client
from gateway.store.redis.connection import ReplyError
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.usage.ledger_writer import LedgerWriter, describe, pause
from gateway.store.usage.reader import UsageReader
from gateway.store.usage.retention import purge_usage
from gateway.store.usage.sharded.shard_reader import usage_reader
from gateway.store.usage_sums.retention import SUMS_RETENTION_DAYS, purge_quarters
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics

_PURGE_EVERY_S = 3600.0
_ASKED_EVERY_S = 2.0
_ASK_KIND_EVERY_S = 5.0
_WAIT_S = 1.0
_DAY_MS = 86_400_000
logger = logging.getLogger(__name__)


async def run_ledger(
    settings: Settings, secrets: Secrets, metrics: Metrics, stop: asyncio.Event
) -> None:
    """
    Run a ledger writer and the hourly purge until `stop` is set.

    The embedded database is migrated first; on PostgreSQL the writer waits for the migration.
    """
    if is_sql_embedded(settings):
        await migrate(settings)
    target = redis_address(settings, secrets, "capio-ledger")
    waits = False
    while not stop.is_set():
        try:
            found = await ask_kind(target)
        except (OSError, ReplyError) as error:
            metrics.ledger_failing.set(1)
            reason = error.code if isinstance(error, ReplyError) else describe(error)
            fields = {"redis": target.label, "reason": reason}
            level = logging.DEBUG if waits else logging.WARNING
            logger.log(level, "ledger_start_deferred", extra=fields)
            waits = True
            await pause(stop, _WAIT_S)
            continue
        waits = False
        ended = asyncio.Event()
        ending = asyncio.create_task(_end_with_kind(target, found, stop, ended))
        try:
            await _run_on(found, settings, secrets, metrics, ended)
        finally:
            ending.cancel()
            await asyncio.wait([ending])


async def _end_with_kind(
    target: RedisAddress, found: RedisAddress, stop: asyncio.Event, ended: asyncio.Event
) -> None:
    """Set `ended` once `stop` is set, or Redis is no longer one server or a cluster, as found."""
    changed = asyncio.create_task(_kind_change(target, found))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((changed, stopped), return_when=asyncio.FIRST_COMPLETED)
        ended.set()
    finally:
        changed.cancel()
        stopped.cancel()


async def _kind_change(target: RedisAddress, found: RedisAddress) -> None:
    while True:
        await asyncio.sleep(_ASK_KIND_EVERY_S)
        with contextlib.suppress(OSError, ReplyError):
            if await ask_kind(target) != found:
                logger.warning("redis_kind_changed", extra={"redis": target.label})
                return


async def _run_on(
    target: RedisAddress,
    settings: Settings,
    secrets: Secrets,
    metrics: Metrics,
    stop: asyncio.Event,
) -> None:
    """Run on a Redis of a known kind until `stop` is set."""
    client = cold_client(target)
    reader = usage_reader(client, settings.redis.key_prefix)
    runs = ReconcileRuns(client.execute_command, settings.redis.key_prefix)
    database = Database(settings, secrets.sql_password)
    rest_s = settings.sql.ledger_rest_ms / 1000
    writer = LedgerWriter(reader, database, metrics, rest_s=rest_s)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writer.run(stop))
            tasks.create_task(writer.report(stop))
            tasks.create_task(_reconcile_when_asked(runs, database, stop))
            tasks.create_task(
                _purge_forever(reader, database, settings.sql.usage_retention_days, stop)
            )
    finally:
        await database.aclose()
        await reader.aclose()


async def _purge_forever(
    reader: UsageReader, database: Database, days: int, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        now_ms = int(time.time() * 1000)
        before_ms = now_ms - days * _DAY_MS
        try:
            purged = await purge_usage(database, before_ms)
            # Sums outlive their events: a rebuild would restore sums whose events are still there.
            sums_before_ms = now_ms - max(days, SUMS_RETENTION_DAYS) * _DAY_MS
            await purge_quarters(database, sums_before_ms)
            await reader.purge_dead_letters(before_ms)
            await reader.forget_consumers()
            if purged:
                logger.info("usage_events_purged", extra={"events": purged, "days": days})
        except (RedisError, OSError, GatewayError) as error:
            logger.warning("retention_purge_deferred", extra={"error": describe(error)})
        except Exception:  # the root of a task: the next purge tries again
            logger.exception("retention_purge_failed")
        await pause(stop, _PURGE_EVERY_S)


async def _reconcile_when_asked(
    runs: ReconcileRuns, database: Database, stop: asyncio.Event
) -> None:
    """Check all balances when an operator asks for it, until `stop` is set."""
    while not stop.is_set():
        try:
            by = await runs.take()
            if by is not None:
                await runs.finish(await _reconcile(database, by))
        except (RedisError, OSError):
            pass  # logged by the writer
        except Exception:  # the root of a task: the next request is served
            logger.exception("reconcile_failed")
        await pause(stop, _ASKED_EVERY_S)


async def _reconcile(database: Database, by: str) -> ReconcileRun:
    began = time.monotonic()
    try:
        found = await reconcile(database)
    except GatewayError as error:
        return ReconcileRun(
            asked_by=by, at=int(time.time()), took_ms=_ms_since(began), error=describe(error)
        )
    logger.info("ledger_reconciled", extra={"by": by, "differences": len(found.differences)})
    return ReconcileRun(
        asked_by=by,
        at=int(time.time()),
        took_ms=_ms_since(began),
        accounts=found.accounts,
        entries=found.entries,
        differences=len(found.differences),
        shown=tuple(found.differences[:MAX_SHOWN]),
    )


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor stops this process last
    secrets = resolve_secrets(settings, os.environ, read_text, wanted=Wanted.STORES)
    await run_ledger(settings, secrets, Metrics(), stop)


def main(settings_path: str) -> None:
    """Run until SIGTERM or the end of the supervisor."""
    end_with_parent()
    settings = msgspec.json.decode(Path(settings_path).read_bytes(), type=Settings)
    logs.configure(settings.server.log_format)
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main(sys.argv[1])

"""Checks Redis and SQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import text

from gateway.cli.diagnosis.findings import Finding, clock, error, latency_ms, ok, warning
from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings
from gateway.settings.embedded import is_redis_embedded, valkey_socket
from gateway.settings.kept.urls import split_sentinel_url
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import detect
from gateway.store.redis.cluster.survey import Survey, survey_cluster
from gateway.store.redis.connection import (
    RedisConnection,
    RedisRefusedError,
    ReplyError,
    open_connection,
)
from gateway.store.redis.server_info import warnings
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import pending_revisions

_REDIS, _SQL = "redis", "sql"
_SLOW_SQL_MS = 20.0
_CONSOLE_AND_LEDGER = 3
_RESERVED_CONNECTIONS = 3
"""PostgreSQL keeps them for superusers."""
_LOGIN_REMEDIES = {
    "WRONGPASS": "check redis.password_env or redis.password_file, and the user in redis.url",
    "NOAUTH": "set redis.password_env or redis.password_file",
    "NOPERM": "allow the user of ACL what docs/operations.md lists",
    "LOADING": "wait until Redis has read its data",
}


async def check_redis(settings: Settings, secrets: Secrets) -> AsyncIterator[Finding]:
    """Yield the findings about Redis."""
    if is_redis_embedded(settings) and not valkey_socket(Path(settings.server.data_dir)).exists():
        yield ok(_REDIS, "embedded; it runs with the gateway, which does not run now")
        return
    try:
        target = await detect(redis_address(settings, secrets, "capio-doctor"))
        survey = await survey_cluster(target) if target.seeds else None
        link = await open_connection(target)
    except RedisRefusedError as refused:
        yield error(_REDIS, refused.advice.problem, refused.advice.remedy)
        return
    except ReplyError as failure:
        remedy = _LOGIN_REMEDIES.get(failure.code, "see the log of Redis")
        yield error(_REDIS, f"it refuses the connection: {failure.code}", remedy)
        return
    except (OSError, ValueError) as failure:
        reason = str(failure) or type(failure).__name__
        yield error(_REDIS, f"no connection: {reason}", "check redis.url, its network and TLS")
        return
    try:
        async for finding in _judge_redis(settings, link, survey):
            yield finding
    finally:
        link.abort()
        await link.closed


async def _judge_redis(
    settings: Settings, link: RedisConnection, survey: Survey | None
) -> AsyncIterator[Finding]:
    taken = await latency_ms(lambda: link.call([("PING",)]))
    product = _kind_of(settings, link, survey)
    limit = settings.redis.command_timeout_ms
    if taken * 4 > limit:
        yield warning(
            _REDIS,
            f"{product}; a command takes {taken:.1f} ms, near redis.command_timeout_ms ({limit})",
            "place it nearer, or raise redis.command_timeout_ms",
        )
    else:
        yield ok(_REDIS, f"{product}; a command takes {taken:.1f} ms")
    if link.server is None:
        yield warning(
            _REDIS, "INFO is not allowed, so the server is not checked", "allow it: ACL +info"
        )
    elif not is_redis_embedded(settings):
        for advice in warnings(link.server) if survey is None else survey.warnings:
            yield warning(_REDIS, advice.problem, advice.remedy)
    before = time.time()
    try:
        (reply,) = await link.call([("TIME",)])
    except ReplyError:
        return
    if isinstance(reply, list) and isinstance(reply[0], bytes) and isinstance(reply[1], bytes):
        theirs = int(reply[0]) + int(reply[1]) / 1e6
        yield clock(_REDIS, theirs, before, time.time())


def _kind_of(settings: Settings, link: RedisConnection, survey: Survey | None) -> str:
    if survey is not None:
        return survey.product
    product = "a server" if link.server is None else link.server.product
    is_watched = split_sentinel_url(settings.redis.url) is not None
    return f"the primary of Sentinels: {product}" if is_watched else product


async def check_sql(settings: Settings, secrets: Secrets) -> AsyncIterator[Finding]:
    """Yield the findings about the database."""
    if not has_database(settings):
        yield ok(_SQL, "embedded; `capio serve` creates it at its first start")
        return
    try:
        database = Database(settings, secrets.sql_password)
    except (OSError, ValueError) as failure:
        yield error(_SQL, str(failure), "check sql.url")
        return
    try:
        async for finding in _judge_sql(settings, database):
            yield finding
    except GatewayError as failure:
        yield error(
            _SQL, f"no connection: {failure.detail}", "check sql.url, its password and network"
        )
    finally:
        await database.aclose()


async def _judge_sql(settings: Settings, database: Database) -> AsyncIterator[Finding]:
    pending = await pending_revisions(database)
    if pending:
        detail = f"the schema lacks {len(pending)} migrations, from {pending[0]}"
        yield error(_SQL, detail, "run `capio migrate`")
    async with database.read() as connection:
        taken = await latency_ms(lambda: connection.execute(text("SELECT 1")))
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    if taken > _SLOW_SQL_MS:
        yield warning(_SQL, f"{kind}; a query takes {taken:.1f} ms", "place it nearer")
    else:
        yield ok(_SQL, f"{kind}; a query takes {taken:.1f} ms")
    if database.is_sqlite:
        return
    async with database.read() as connection:
        before = time.time()
        theirs = await connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
        yield clock(_SQL, float(theirs or 0), before, time.time())
        most = int(await connection.scalar(text("SHOW max_connections")) or 0)
    needed = (
        settings.server.workers * settings.sql.pool_size
        + settings.server.workers  # while Redis is unavailable
        + settings.console.pool_size
        + _CONSOLE_AND_LEDGER
    )
    if needed > most - _RESERVED_CONNECTIONS:
        yield warning(
            _SQL,
            f"one gateway may open {needed} connections, and max_connections is {most}",
            "lower sql.pool_size, or raise max_connections",
        )


def has_database(settings: Settings) -> bool:
    """Return whether there is a database: the embedded one is created by the first start."""
    is_embedded = settings.sql.url == "embedded"
    return not is_embedded or (Path(settings.server.data_dir) / "capio.db").exists()

"""Starts the gateway: migrates the schema, then runs the supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click

from gateway.errors import GatewayError
from gateway.operations.people import PeopleOperations
from gateway.protocols.translate.capabilities import capabilities
from gateway.server.child import PRIVATE_UMASK
from gateway.server.file_limit import FileLimitError
from gateway.server.supervisor import Supervisor
from gateway.server.workers.listeners import ListenError
from gateway.settings import ConfigError, Secrets, Settings, load, read_text, resolve_secrets
from gateway.settings.embedded import can_be_written, is_redis_embedded
from gateway.settings.urls import host_and_port
from gateway.store.accounts.audit import SYSTEM
from gateway.store.hot_state.installation import check_installation
from gateway.store.hot_state.known_schema import KnownSchema
from gateway.store.redis.connection import RedisRefusedError
from gateway.store.redis.start_check import check_redis
from gateway.store.spill.segments import measure
from gateway.store.sql.database import Database
from gateway.store.sql.preparation import prepare_schema
from gateway.store.usage.journal import spill_directory
from gateway.telemetry import logs

USAGE_LEFT = 3
"""Exit code: neither Redis nor SQL accepted all usage, which is on disk in `spill/`."""
logger = logging.getLogger(__name__)


def serve(settings: Settings, config_path: Path | None) -> int:
    """
    Run the gateway until SIGTERM or SIGINT; return the exit code.

    Args:
        settings: Checked.
        config_path: Read again on SIGHUP and when it changes; None disables reloading.
    """
    logs.configure(settings.server.log_format)

    def reload() -> Settings:
        assert config_path is not None
        settings = load(config_path, capabilities, os.environ)
        resolve_secrets(settings, os.environ, read_text)  # a worker needs them to start
        return settings

    supervisor = Supervisor(settings, reload if config_path else None, config_path=config_path)
    return run(settings, supervisor)


def _check_data_dir(directory: Path) -> None:
    """Raise ValueError if the data directory cannot be written, as a mounted one of root's."""
    if not can_be_written(directory):
        raise ValueError(
            f"server.data_dir: {directory} cannot be written; give it to user {os.getuid()},"
            " or set another one"
        )


async def _prepare(settings: Settings, secrets: Secrets) -> None:
    """Check Redis, prepare SQL; on a terminal, show how to set up the pages without an operator."""
    await check_redis(settings, secrets)
    password = secrets.sql_password
    memory = None if is_redis_embedded(settings) else KnownSchema(settings, secrets)
    if not await prepare_schema(settings, password, memory=memory):
        return
    await check_installation(settings, secrets)
    if not settings.console.enabled or not sys.stderr.isatty():
        return  # the link is a secret: it must not end up in a log
    database = Database(settings, password)
    try:
        people = PeopleOperations(database, settings.brand.public_url)
        if not await people.has_operator():
            link = await people.setup_link(SYSTEM)
            click.echo(f"Set up the pages within an hour: {link}", err=True)
    finally:
        await database.aclose()


def run(settings: Settings, supervisor: Supervisor) -> int:
    """Migrate the schema and run the supervisor; return the exit code."""
    os.umask(PRIVATE_UMASK)
    try:
        secrets = resolve_secrets(settings, os.environ, read_text)
        _check_data_dir(Path(settings.server.data_dir).absolute())
        asyncio.run(_prepare(settings, secrets))
    except (RedisRefusedError, ValueError) as refused:
        logger.error("start_refused", extra={"reason": str(refused)})  # noqa: TRY400 - the message is complete
        return 1
    except GatewayError as failure:
        reason = failure.detail or failure.message
        logger.error("migration_failed", extra={"reason": reason})  # noqa: TRY400 - the message is complete
        return 1
    except (ConfigError, OSError) as failure:
        logger.error("migration_failed", extra={"reason": str(failure)})  # noqa: TRY400 - the message is complete
        return 1
    server, metrics = settings.server, settings.metrics
    scheme = "http" if server.tls_cert_file is None else "https"
    address = host_and_port(server.host, server.port)
    serving = {
        "url": f"{scheme}://{address}",
        "address": address,
        "workers": server.workers,
        "metrics": host_and_port(metrics.host, metrics.port),
    }
    if server.direct_port is not None:
        serving["direct"] = host_and_port(server.host, server.direct_port)
    try:
        code = supervisor.run(lambda: logger.info("gateway_started", extra=serving))
    except (FileLimitError, ListenError) as failure:
        logger.error("start_refused", extra={"reason": str(failure)})  # noqa: TRY400 - the message is complete
        return 1
    code = _with_leftovers(settings, code)
    logger.info("gateway_stopped", extra={"exit_code": code})
    return code


def _with_leftovers(settings: Settings, code: int) -> int:
    """Return the exit code: USAGE_LEFT if usage is only on the disk of this machine."""
    directory = spill_directory(settings)
    left = measure(directory)
    if not left.size_bytes:
        return code
    found = {"directory": str(directory), "files": left.files, "size_bytes": left.size_bytes}
    remedy = "keep the directory, and start the gateway with it once Redis or SQL is available"
    logger.error("usage_events_left", extra={**found, "remedy": remedy})
    return code or USAGE_LEFT

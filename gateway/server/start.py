"""Starts the gateway: migrates the schema, then runs the supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.server.child import PRIVATE_UMASK
from gateway.server.file_limit import FileLimitError
from gateway.server.supervisor import Supervisor
from gateway.server.workers.listeners import ListenError
from gateway.settings import ConfigError, Settings, load, read_text, resolve_secrets
from gateway.store.sql.migrations import migrate
from gateway.telemetry import logs

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
        settings = load(config_path, capabilities)
        resolve_secrets(settings, os.environ, read_text)  # a worker needs them to start
        return settings

    supervisor = Supervisor(settings, reload if config_path else None, config_path=config_path)
    return run(settings, supervisor)


def run(settings: Settings, supervisor: Supervisor) -> int:
    """Migrate the schema and run the supervisor; return the exit code."""
    os.umask(PRIVATE_UMASK)
    try:
        secrets = resolve_secrets(settings, os.environ, read_text)
        asyncio.run(migrate(settings, secrets.sql_password))
    except (GatewayError, ConfigError, OSError) as failure:
        logger.error("migration_failed", extra={"reason": str(failure)})  # noqa: TRY400 - the message is complete
        return 1
    scheme = "http" if settings.server.tls_cert_file is None else "https"
    serving = {
        "url": f"{scheme}://{settings.server.host}:{settings.server.port}",
        "address": f"{settings.server.host}:{settings.server.port}",
        "workers": settings.server.workers,
        "metrics": f"{settings.metrics.host}:{settings.metrics.port}",
    }
    try:
        code = supervisor.run(lambda: logger.info("gateway_started", extra=serving))
    except (FileLimitError, ListenError) as failure:
        logger.error("start_refused", extra={"reason": str(failure)})  # noqa: TRY400 - the message is complete
        return 1
    logger.info("gateway_stopped", extra={"exit_code": code})
    return code

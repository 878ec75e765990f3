"""Starts what a configuration describes: schema first, then the processes."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.server.file_limit import FileLimitError
from gateway.server.supervisor import PRIVATE_UMASK, Supervisor
from gateway.settings import ConfigError, Settings, load, resolve_secrets
from gateway.store.sql.migrations import migrate
from gateway.telemetry import logs

log = logging.getLogger("gateway.server")


def serve(settings: Settings, config_path: Path | None) -> int:
    """
    Run the gateway until SIGTERM or SIGINT; return the exit code.

    Args:
        settings: Checked.
        config_path: Read again on SIGHUP; None keeps the settings for good.
    """
    logs.configure()

    def read_again() -> Settings:
        assert config_path is not None
        again = load(config_path, capabilities)
        resolve_secrets(again, os.environ, _read_text)  # a worker without them could not start
        return again

    return run(settings, Supervisor(settings, read_again if config_path else None))


def run(settings: Settings, supervisor: Supervisor) -> int:
    """Bring the schema up to date and supervise; return the exit code."""
    os.umask(PRIVATE_UMASK)
    try:
        secrets = resolve_secrets(settings, os.environ, _read_text)
        asyncio.run(migrate(settings, secrets.sql_password))
    except (GatewayError, ConfigError, OSError) as failure:
        log.error("migration_failed", extra={"reason": str(failure)})  # noqa: TRY400 -- told whole
        return 1
    serving = {
        "address": f"{settings.server.host}:{settings.server.port}",
        "workers": settings.server.workers,
        "metrics": f"{settings.metrics.host}:{settings.metrics.port}",
    }
    try:
        code = supervisor.run(lambda: log.info("serving", extra=serving))
    except FileLimitError as failure:
        log.error("start_refused", extra={"reason": str(failure)})  # noqa: TRY400 -- told whole
        return 1
    log.info("stopped", extra={"exit_code": code})
    return code


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")

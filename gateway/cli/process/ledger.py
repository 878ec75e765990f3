"""`capio ledger`: runs only the ledger writer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, start_http_server

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.formats import FAILURE, fail
from gateway.cli.process.stopping import stop_event
from gateway.errors import GatewayError
from gateway.server.ledger_process import run_ledger
from gateway.settings import Secrets, Settings
from gateway.store.hot_state.installation import check_installation
from gateway.store.redis.start_check import check_redis
from gateway.store.sql.preparation import prepare_schema
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics


@click.command()
@config_option
def ledger(config_path: Path | None) -> None:
    """
    Run only the ledger writer until SIGTERM or Ctrl-C.

    Any number of them may run concurrently. `metrics.host` and `metrics.port` serve its metrics.
    """
    settings = load_config(config_path)
    secrets = store_secrets(settings)
    configure(settings.server.log_format)
    try:
        asyncio.run(_run_ledger(settings, secrets))
    except GatewayError as error:
        fail([f"{error.message} ({error.detail})"], FAILURE)
    except (OSError, ValueError) as error:
        fail([str(error)], FAILURE)


async def _run_ledger(settings: Settings, secrets: Secrets) -> None:
    await check_redis(settings, secrets)
    await prepare_schema(settings, secrets.sql_password)
    await check_installation(settings, secrets)
    stop = stop_event()
    registry = CollectorRegistry()
    exporter, thread = start_http_server(settings.metrics.port, settings.metrics.host, registry)
    try:
        await run_ledger(settings, secrets, Metrics(registry), stop)
    finally:
        exporter.shutdown()
        exporter.server_close()
        await asyncio.to_thread(thread.join)

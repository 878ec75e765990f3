"""`capio ledger`: the ledger writer as a process of its own, for who scales it apart."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, start_http_server

from gateway.cli.config import config_option, load_config, store_secrets
from gateway.cli.output import FAILURE, fail
from gateway.errors import GatewayError
from gateway.server.ledger_process import run_ledger
from gateway.settings import Secrets, Settings
from gateway.store.sql.migrations import migrate
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics


@click.command()
@config_option
def ledger(config_path: Path | None) -> None:
    """
    Run the ledger writer alone until SIGTERM or Ctrl-C.

    Any number may run at once. `metrics.host` and `metrics.port` serve its metrics.
    """
    settings = load_config(config_path)
    secrets = store_secrets(settings)
    configure()
    try:
        asyncio.run(_run(settings, secrets))
    except GatewayError as failure:
        fail([f"{failure.message} ({failure.detail})"], FAILURE)
    except OSError as failure:
        fail([str(failure)], FAILURE)


async def _run(settings: Settings, secrets: Secrets) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await migrate(settings, secrets.sql_password)
    registry = CollectorRegistry()
    exporter, thread = start_http_server(settings.metrics.port, settings.metrics.host, registry)
    try:
        await run_ledger(settings, secrets, Metrics(registry), stop)
    finally:
        exporter.shutdown()
        exporter.server_close()
        await asyncio.to_thread(thread.join)

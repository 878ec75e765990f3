"""`capio serve`, `capio demo` and `capio ledger`: the processes of the gateway."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, start_http_server

from gateway.cli.config import (
    config_option,
    find_config,
    load_config,
    read_config,
    read_secrets,
    refuse_config,
    store_secrets,
)
from gateway.cli.formats import FAILURE, fail
from gateway.console.process import Reload, run_console
from gateway.errors import GatewayError
from gateway.server.demonstration import demo as run_demo
from gateway.server.ledger_process import run_ledger
from gateway.server.start import serve as run_gateway
from gateway.settings import ConfigError, Secrets, Settings, Wanted
from gateway.store.sql.migrations import migrate
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics


@click.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    path = find_config(config_path)
    settings = load_config(path)
    try:
        read_secrets(settings)
    except ConfigError as error:
        refuse_config(path, error.errors)
    sys.exit(run_gateway(settings, path))


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on.",
)
@click.option(
    "--faults",
    is_flag=True,
    help="Let the upstream fail at random, and print each fault.",
)
def demo(port: int, faults: bool) -> None:
    """Run the gateway with a simulated upstream; no provider is needed."""
    sys.exit(run_demo(port, faults=faults))


@click.command()
@config_option
def console(config_path: Path | None) -> None:
    """
    Run only the pages and the admin API until SIGTERM or Ctrl-C, on `console.host` and
    `console.port`.

    Any number of them may run, with the same `console.secret_env` or `console.secret_file`.
    """
    path = find_config(config_path)
    settings = load_config(path)
    secrets = store_secrets(settings, Wanted.CONSOLE)
    configure(settings.server.log_format)
    try:
        asyncio.run(_run_console(settings, secrets, lambda: read_config(path)))
    except GatewayError as error:
        fail([f"{error.message} ({error.detail})"], FAILURE)
    except OSError as error:
        fail([str(error)], FAILURE)


async def _run_console(settings: Settings, secrets: Secrets, reload: Reload) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await migrate(settings, secrets.sql_password)
    await run_console(settings, secrets, reload, stop)


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
    except OSError as error:
        fail([str(error)], FAILURE)


async def _run_ledger(settings: Settings, secrets: Secrets) -> None:
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

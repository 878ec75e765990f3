"""`capio console`: runs only the pages and the admin API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.config import config_option, find_config, load_config, read_config, store_secrets
from gateway.cli.formats import FAILURE, fail
from gateway.cli.process.stopping import stop_event
from gateway.console.process import Reload, run_console
from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings, Wanted
from gateway.store.hot_state.installation import check_installation
from gateway.store.redis.start_check import check_redis
from gateway.store.sql.preparation import prepare_schema
from gateway.telemetry.logs import configure


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
        asyncio.run(_run_console(settings, secrets, lambda: read_config(path), path))
    except GatewayError as error:
        fail([f"{error.message} ({error.detail})"], FAILURE)
    except (OSError, ValueError) as error:
        fail([str(error)], FAILURE)


async def _run_console(settings: Settings, secrets: Secrets, reload: Reload, path: Path) -> None:
    await check_redis(settings, secrets)
    await prepare_schema(settings, secrets.sql_password)
    await check_installation(settings, secrets)
    stop = stop_event()
    await run_console(settings, secrets, reload, stop, config_path=path)

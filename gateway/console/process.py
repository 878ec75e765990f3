"""
The console process.

The supervisor runs it as `python -m gateway.console SETTINGS`, where SETTINGS is the file with the
checked settings as JSON; `capio console` calls `run_console`. SIGHUP reads the settings again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from gateway.console.application import Application
from gateway.console.routes import ROUTES
from gateway.console.services import Services, open_services
from gateway.settings import ConfigError, Secrets, Settings, read_text, resolve_secrets
from gateway.signals import end_with_parent
from gateway.telemetry import logs

logger = logging.getLogger(__name__)

NICE = 5
"""Calls have priority: the console yields to workers on the same core."""
MAX_REQUESTS = 256  # at once
_HEADER_TIMEOUT_MS = 10_000
_PORT_RETRY_S = 2.0

Reload = Callable[[], Settings]


async def run_console(
    settings: Settings, secrets: Secrets, reload: Reload, stop: asyncio.Event
) -> None:
    """
    Serve the pages until `stop` is set.

    Args:
        settings: Checked settings.
        secrets: Passwords of the stores.
        reload: Returns the new settings on SIGHUP; ConfigError keeps the current ones.
        stop: Ends the server.
    """
    async with AsyncExitStack() as stack:
        services = await open_services(settings, secrets, stack)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, _reload, services, reload)
        await _wait_for_port(settings.console.host, settings.console.port, stop)
        if stop.is_set():
            return
        server = _server(Application(services, services.people, ROUTES), settings)
        serving = asyncio.create_task(server.serve())
        warming = asyncio.create_task(asyncio.to_thread(services.public.warm))
        logger.info(
            "console_started",
            extra={"address": f"{settings.console.host}:{settings.console.port}"},
        )
        await stop.wait()
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.gather(serving, warming)


def main(settings_path: str) -> None:
    """Run until SIGTERM or the end of the supervisor."""
    end_with_parent()
    os.nice(NICE)
    path = Path(settings_path)
    settings = _read(path)
    logs.configure(settings.server.log_format)
    asyncio.run(_main(settings, lambda: _read(path)))


async def _main(settings: Settings, reload: Reload) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor stops this process
    secrets = resolve_secrets(settings, os.environ, read_text, stores_only=True)
    await run_console(settings, secrets, reload, stop)


def _read(path: Path) -> Settings:
    return msgspec.json.decode(path.read_bytes(), type=Settings)


def _reload(services: Services, reload: Reload) -> None:
    try:
        services.reload(reload())
    except (ConfigError, OSError, msgspec.MsgspecError) as failure:
        logger.error("console_reload_failed", extra={"reason": str(failure)})  # noqa: TRY400
        return
    logger.info("console_reloaded", extra={"models": len(services.catalogue.models)})


async def _wait_for_port(host: str, port: int, stop: asyncio.Event) -> None:
    """Return once the port can be bound, so that a taken one does not restart the process."""
    warned = False
    while not stop.is_set():
        try:
            with socket.create_server((host, port)):
                return
        except OSError as error:
            if not warned:
                warned = True
                logger.warning(
                    "console_port_unavailable", extra={"port": port, "reason": str(error)}
                )
        try:
            async with asyncio.timeout(_PORT_RETRY_S):
                await stop.wait()
        except TimeoutError:
            continue


def _server(application: Application, settings: Settings) -> Server:
    return Server(
        application,
        address=settings.console.host,
        port=settings.console.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=MAX_REQUESTS,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_TIMEOUT_MS),
        log_level=LogLevels.error,
    )

"""
The console process: the pages for people and the admin API.

The supervisor runs it as `python -m gateway.console SETTINGS`, where SETTINGS is the file with the
checked settings as JSON; `capio console` calls `run_console`. SIGHUP reads the settings again.
With `console.enabled = false` the supervisor's process serves the admin API alone and imports
nothing of the pages, which halves its start and its memory.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from gateway.console.admin_api.api import PREFIX, AdminApi
from gateway.console.memory import (
    end_before_workers,
    ending_without_memory,
    return_large_blocks,
)
from gateway.console.stores import (
    ADMIN_CONNECTIONS,
    ADMIN_STATEMENT_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    Stores,
    admin_api,
    open_database,
    open_redis,
)
from gateway.settings import ConfigError, Secrets, Settings, Wanted, read_text, resolve_secrets
from gateway.settings.urls import host_and_port
from gateway.signals import end_with_parent
from gateway.store.redis.bus import RedisBus
from gateway.store.sql.database import Database
from gateway.telemetry import logs

logger = logging.getLogger(__name__)

NICE = 5
"""Calls have priority: the console yields to workers on the same core."""
MAX_REQUESTS = 256  # at once
STOP_S = 3.0
"""How long requests may take that are in progress at the end."""
_HEADER_TIMEOUT_MS = 10_000
_PORT_RETRY_S = 2.0
_WARM_AFTER_S = 5.0
"""Delay before the documentation is rendered ahead: the first pages are more urgent."""
_WARM_PAUSE_S = 0.02

Reload = Callable[[], Settings]
App = Callable[..., Awaitable[None]]
Rendering = Callable[[], object]


async def run_console(
    settings: Settings,
    secrets: Secrets,
    reload: Reload,
    stop: asyncio.Event,
    *,
    pages: bool = True,
    config_path: Path | None = None,
) -> None:
    """
    Serve the pages and the admin API until `stop` is set.

    Args:
        settings: Checked settings.
        secrets: Those of the stores, the pages and the admin API.
        reload: Returns the new settings on SIGHUP; ConfigError keeps the current ones.
        stop: Ends the server.
        pages: False: only the admin API.
        config_path: The file of the settings, which a page compares with them.
    """
    return_large_blocks()
    async with AsyncExitStack() as stack:
        redis = await open_redis(settings, secrets, stack)
        pool_size = settings.console.pool_size
        database = open_database(settings, secrets, stack, pool_size, STATEMENT_TIMEOUT_S)
        make = _make_pages if pages else _make_stores
        stores, application, renderings = make(settings, secrets, database, redis)
        stack.push_async_callback(stores.publisher.aclose)
        stores.config_path = config_path
        await stores.start_catalogue(stack)
        api = admin_api(
            stores,
            open_database(settings, secrets, stack, ADMIN_CONNECTIONS, ADMIN_STATEMENT_TIMEOUT_S),
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, _reload, stores, reload)
        await _wait_for_port(settings.console.host, settings.console.port, stop)
        if stop.is_set():
            return
        guarded = ending_without_memory(dispatch(api, application), stop.set)
        server = _server(guarded, settings)
        serving = asyncio.create_task(server.serve())
        gc.freeze()
        gc.enable()
        warming = asyncio.create_task(_warm(renderings(), stop))
        following = asyncio.create_task(stores.follow(stop))
        # A new process shows what is current: this one no longer would.
        following.add_done_callback(
            lambda task: stop.set() if not task.cancelled() and task.exception() else None
        )
        console = settings.console
        logger.info(
            "console_started",
            extra={"address": host_and_port(console.host, console.port), "pages": pages},
        )
        await stop.wait()
        await _end(server, serving)
        await asyncio.gather(warming, following)


async def _end(server: Server, serving: asyncio.Task[None]) -> None:
    """Accept no more connections, and give requests in progress STOP_S."""
    server.stop()  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(STOP_S):
            await serving
    except TimeoutError:
        logger.warning("console_requests_ended")


def dispatch(api: AdminApi, pages: App | None) -> App:
    """Return an application of both: the API has its prefix, and everything without pages."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        chosen: App = api
        if pages is not None and not scope["path"].startswith(PREFIX):
            chosen = pages
        await chosen(scope, receive, send)

    return application


def _make_stores(
    settings: Settings, secrets: Secrets, database: Database, redis: RedisBus
) -> tuple[Stores, App | None, Callable[[], Iterator[Rendering]]]:
    return Stores(settings, secrets, database, redis), None, lambda: iter(())


def _make_pages(
    settings: Settings, secrets: Secrets, database: Database, redis: RedisBus
) -> tuple[Stores, App | None, Callable[[], Iterator[Rendering]]]:
    # Imported here, see the top of this file.
    from gateway.console.application import Application  # noqa: PLC0415
    from gateway.console.routes import ROUTES  # noqa: PLC0415
    from gateway.console.services import Services  # noqa: PLC0415

    services = Services(settings, secrets, database, redis)
    application = Application(services, services.people, ROUTES)
    return services, application, services.public.renderings


async def _warm(renderings: Iterator[Rendering], stop: asyncio.Event) -> None:
    """Render the documentation page by page until `stop` is set, leaving time for requests."""
    pause_s = _WARM_AFTER_S
    for render in renderings:
        try:
            async with asyncio.timeout(pause_s):
                await stop.wait()
            return
        except TimeoutError:
            await asyncio.to_thread(render)
        pause_s = _WARM_PAUSE_S


def main(settings_path: str, config_path: str | None = None) -> None:
    """Run until SIGTERM or the end of the supervisor."""
    end_with_parent()
    os.nice(NICE)
    end_before_workers()
    path = Path(settings_path)
    settings = _read(path)
    logs.configure(settings.server.log_format)
    config = None if config_path is None else Path(config_path)
    asyncio.run(_main(settings, lambda: _read(path), config))


async def _main(settings: Settings, reload: Reload, config_path: Path | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor stops this process
    secrets = resolve_secrets(settings, os.environ, read_text, wanted=Wanted.CONSOLE)
    await run_console(
        settings, secrets, reload, stop, pages=settings.console.enabled, config_path=config_path
    )


def _read(path: Path) -> Settings:
    return msgspec.json.decode(path.read_bytes(), type=Settings)


def _reload(stores: Stores, reload: Reload) -> None:
    try:
        stores.reload(reload())
    except (ConfigError, OSError, msgspec.MsgspecError) as failure:
        logger.error("console_reload_failed", extra={"reason": str(failure)})  # noqa: TRY400
        return
    logger.info("console_reloaded", extra={"models": len(stores.catalogue.models)})


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
                logger.warning("console_bind_failed", extra={"port": port, "reason": str(error)})
        try:
            async with asyncio.timeout(_PORT_RETRY_S):
                await stop.wait()
        except TimeoutError:
            continue


def _server(application: App, settings: Settings) -> Server:
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

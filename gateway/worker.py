"""
One worker process: starts what `gateway.app` builds, reloads its catalogue, drains and stops it.

Granian loads a `Worker` in each worker process and calls it as an ASGI application; lifespan
messages start and stop it on the worker's event loop. In between, a timer on that loop writes the
heartbeat and carries out the supervisor's orders, see `gateway.worker_state`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from gateway.app import EdgeBuilder, Stores
from gateway.core.catalogue import Catalogue, build
from gateway.direct_port.server import DirectServer
from gateway.edge.asgi import Edge
from gateway.edge.first_heads import FirstHeads
from gateway.pipeline.client.channel import ClientChannel, Receive, Scope, Send
from gateway.pipeline.offload import offloaded
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import Settings, read_text, resolve_secrets
from gateway.settings.entries.credentials import StoredCredentials
from gateway.settings.entries.merge import StoredEntry, merge
from gateway.signals import unblock_stop_signals
from gateway.store.catalogue.records import StoredCatalogue
from gateway.telemetry import logs
from gateway.telemetry.metrics import fix_process
from gateway.tokens.counters import Counters
from gateway.worker_state import END_S, Orphan, Phase, WorkerLink

logger = logging.getLogger(__name__)

# Granian ignores SIGTERM until it has begun to serve; unblock signals this long after start-up.
_UNBLOCK_SIGNALS_S = 0.2
_ABORT_S = END_S / 2
"""How long after the grace period the direct port's connections may last."""
_PULSE_S = 0.25
"""How often the loop writes its heartbeat and reads its orders."""
# A call leaves no reference cycles, see `test_reference_cycles`: collecting 30 times less often
# saves 4 % of its CPU time.
_GC_THRESHOLDS = (20_000, 20, 50)


class Worker:
    """
    The ASGI application of one worker process.

    Args:
        settings: Checked settings.
        counters: Vocabularies for token counts.
        runtime: File to which the supervisor writes settings before it requests a reload. Models,
            providers, prices and credentials are replaced without interrupting running calls; other
            sections apply from the next start.
        link: Connects the worker to its supervisor.
    """

    def __init__(
        self, settings: Settings, counters: Counters, runtime: Path, link: WorkerLink
    ) -> None:
        self._settings = settings
        self._counters = counters
        self._runtime = runtime
        self._state, self._revision, supervisor, port = link[:4]
        self._leave_port = link.stop_accepting
        self._direct: DirectServer | None = None
        if link.direct is not None:
            self._direct = DirectServer(
                self._serve_direct, link.direct, settings.server, link.max_connections
            )
        self._phase = Phase.SERVE
        self._orphan = Orphan(supervisor, settings.server.grace_s)
        self._is_orphaned = False
        self._stack = AsyncExitStack()
        self._builder: EdgeBuilder | None = None
        self._edge: Edge | None = None
        self._ending: asyncio.Task[None] | None = None
        self._stored = StoredCatalogue("")
        self._replacing = asyncio.Lock()
        """Held while the catalogue is replaced, by a reload of the file or a change in SQL."""
        self._reloads: set[asyncio.Task[None]] = set()
        server = settings.server
        self._first_heads: FirstHeads | None = None
        if server.header_timeout_s < server.idle_timeout_s:
            self._first_heads = FirstHeads(port, server.header_timeout_s)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or handle the lifespan messages."""
        if scope["type"] == "http" and self._edge is not None:
            if self._first_heads is not None:
                self._first_heads.note(scope["client"])
            await self._edge.handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)

    def _serve_direct(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request of the direct port."""
        assert self._edge is not None
        return self._edge.handle(scope, receive, send)

    def stop_accepting(self) -> None:
        """Close the direct port in this process; called when the worker is to stop."""
        if self._direct is not None:
            self._direct.stop_accepting()

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if not await self._try_start():
                    await send({"type": "lifespan.startup.failed"})
                    return
                await send({"type": "lifespan.startup.complete"})
                asyncio.get_running_loop().call_later(_UNBLOCK_SIGNALS_S, unblock_stop_signals)
            elif message["type"] == "lifespan.shutdown":
                if self._direct is not None:
                    await self._direct.finish()
                    self._direct.stop()
                # Calls that still run have lost their clients: all others have been waited for.
                await self._end_calls()
                await self._stack.aclose()
                logger.info("worker_stopped")
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _try_start(self) -> bool:
        """Return False if start-up failed, so that the worker exits instead of serving errors."""
        try:
            await self._start()
        except Exception:  # any failure of the start ends the worker
            logger.exception("worker_start_failed")
            await self._stack.aclose()
            return False
        return True

    async def _start(self) -> None:
        settings = self._settings
        logs.configure(settings.server.log_format)
        fix_process(os.getpid())
        secrets = resolve_secrets(settings, os.environ, read_text)
        build(settings, secrets.providers)  # an invalid file fails before anything is opened
        stores = Stores(settings, secrets, self._stack)
        await stores.start()
        self._builder = EdgeBuilder(
            settings, self._counters, stores, self._stack, self._is_draining
        )
        if settings.catalogue.sql:
            self._stored = await stores.catalogue.load()
        catalogue = await self._serve_at_start(settings)
        await stores.share_health()
        self._state.applied = self._revision
        if self._first_heads is not None:
            self._first_heads.start()
            self._stack.callback(self._first_heads.stop)
        self._stack.push_async_callback(self._end_reloads)
        self._pulse(asyncio.get_running_loop())
        if self._direct is not None:
            self._direct.start()
        if settings.catalogue.sql:
            stores.catalogue.start(self._apply_stored)
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        logger.info("worker_started", extra={"models": len(catalogue.models)})
        self._state.started = True

    def _is_draining(self) -> bool:
        return self._state.phase is not Phase.SERVE

    def _pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_PULSE_S, self._pulse, loop)
        self._state.beat = monotonic()
        if self._first_heads is not None:
            self._first_heads.tick()
        if self._state.wanted != self._revision:
            self._revision = self._state.wanted
            reload = loop.create_task(self._reload(self._revision))
            self._reloads.add(reload)
            reload.add_done_callback(self._reloads.discard)
        phase = self._orphaned_phase() or self._state.phase
        if phase is not self._phase:
            self._enter(phase)

    def _orphaned_phase(self) -> Phase | None:
        """Return what to do without a supervisor; None if there is one."""
        now = monotonic()
        phase = self._orphan.observe(os.getppid(), now)
        if phase is not None and not self._is_orphaned:
            self._is_orphaned = True
            logger.error("supervisor_lost", extra={"grace_s": self._settings.server.grace_s})
            if sys.platform != "linux":  # there the kernel has sent it, see `gateway.signals`
                os.kill(os.getpid(), signal.SIGTERM)
        if self._orphan.is_overdue(now):
            logger.error("worker_killed", extra={"worker": os.getpid()})
            os.kill(os.getpid(), signal.SIGKILL)
        return phase

    def _enter(self, phase: Phase) -> None:
        """Apply a new phase, ordered by the supervisor or due to its absence."""
        self._phase = phase
        ClientChannel.closing = phase is not Phase.SERVE
        if phase is Phase.LEAVE:
            self._leave_port()
            self.stop_accepting()
        elif phase is Phase.END and self._ending is None:
            self._ending = asyncio.create_task(self._end_calls())
            if self._direct is not None:
                # Requests that are no calls, or still arrive.
                asyncio.get_running_loop().call_later(_ABORT_S, self._direct.abort)

    async def _end_calls(self) -> None:
        """End the calls that still run, each with an error that its client can read."""
        if self._builder is None or not len(self._builder.running):
            return
        calls = len(self._builder.running)
        cancelled = await self._builder.running.end_all()
        logger.warning("calls_ended", extra={"calls": calls, "cancelled": cancelled})

    async def _reload(self, revision: int) -> None:
        """Serve new calls from the newer catalogue; keep the current one if that fails."""
        try:
            async with self._replacing:
                settings = msgspec.json.decode(self._runtime.read_bytes(), type=Settings)
                catalogue = await self._serve(settings, self._stored)
                self._settings = settings
        except Exception:  # no failure of a reload ends the worker
            logger.exception("catalogue_reload_failed")
            self._state.rejected = revision
            return
        self._state.applied = revision
        logger.info("catalogue_reloaded", extra={"models": len(catalogue.models)})

    async def _end_reloads(self) -> None:
        for reload in self._reloads:
            reload.cancel()
        if self._reloads:
            await asyncio.wait(self._reloads)

    async def _serve_at_start(self, settings: Settings) -> Catalogue:
        """Serve the file and SQL; the file alone if SQL holds something that cannot be served."""
        try:
            return await self._serve(settings, self._stored)
        except Exception:  # whatever is in SQL, the worker starts
            logger.exception("catalogue_apply_failed", extra={"revision": self._stored.revision})
            return await self._serve(settings, StoredCatalogue(""))

    async def _apply_stored(self, stored: StoredCatalogue) -> None:
        """Serve new calls with changed entries of SQL; raises if that fails."""
        async with self._replacing:
            catalogue = await self._serve(self._settings, stored)
            self._stored = stored
        logger.info(
            "catalogue_changed",
            extra={"revision": stored.revision, "models": len(catalogue.models)},
        )

    async def _serve(self, settings: Settings, stored: StoredCatalogue) -> Catalogue:
        """Serve new calls from the file's settings and SQL's entries; running calls keep theirs."""
        assert self._builder is not None
        # Thousands of entries take as long as hundreds of calls.
        served = await offloaded(serve_entries, settings, stored.entries)
        self._edge = self._builder.edge(served.catalogue)
        self._builder.entries.replace(stored.revision, served.problems, served.rejected)
        return served.catalogue


class _Served(NamedTuple):
    catalogue: Catalogue
    problems: list[str]
    rejected: int


def serve_entries(settings: Settings, stored: Sequence[StoredEntry]) -> _Served:
    """
    Return the catalogue of the file and of SQL, and what is wrong with the latter's entries.

    Raises:
        ConfigError: A credential of the file is missing.
    """
    secrets = resolve_secrets(settings, os.environ, read_text)
    credentials = StoredCredentials(os.environ, read_text)
    merged = merge(settings, stored, capabilities, credentials.check)
    catalogue = build(merged.settings, secrets.providers | credentials.found)
    return _Served(catalogue, merged.problems, merged.rejected)

"""
Granian as a library: it serves HTTP in each worker, `Pool` decides when workers start and end.

Granian's own loop cannot be configured to replace workers in this way. So this class overrides how
it opens sockets, starts workers, waits and stops them, and nothing else. These names are private:
tests/unit/server/workers/test_granian_server.py fails if another version of Granian lacks one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import signal
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from granian import _signals
from granian._granian import SocketHolder, WorkerSignal
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from gateway.server.workers.listeners import close_all, keep_only, open_listeners, stop_accepting
from gateway.server.workers.pool import Limits, Pool, Process
from gateway.settings import Settings
from gateway.settings.service import LogFormat
from gateway.telemetry.logs import formatter
from gateway.worker_state import WorkerLink, WorkerState

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Request heads up to this size are accepted; Granian responds 431 above at most twice this."""
TICK_S = 0.1
_LONGEST_QUIET_S = 30.0


class App(Protocol):
    """An ASGI application that knows when its worker stops."""

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        """Serve a request."""

    def stop_accepting(self) -> None:
        """Close what it has opened to clients itself."""


class WorkerServer(MPServer):
    """
    The workers of one gateway.

    Args:
        settings: Checked.
        max_connections: Of one worker.
        load: Returns the ASGI application; called in each worker process.
        ready: Called once, when all workers have started.
    """

    def __init__(
        self,
        settings: Settings,
        max_connections: int,
        load: Callable[[WorkerLink], App],
        ready: Callable[[], None],
    ) -> None:
        server = settings.server
        super().__init__(
            "gateway.worker",
            address=server.host,
            port=server.port,
            interface=Interfaces.ASGI,
            workers=server.workers,
            runtime_threads=1,
            loop=Loops.uvloop,
            # Granian has no timeouts for HTTP/2: silent connections would stay open forever.
            http=HTTPModes.http1,
            websockets=False,
            backlog=server.backlog,
            backpressure=max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=round(server.idle_timeout_s * 1000),
                max_buffer_size=MAX_HEAD_BYTES,
            ),
            log_level=LogLevels.warning,
            log_dictconfig=_logging(server.log_format),
            ssl_cert=Path(server.tls_cert_file) if server.tls_cert_file else None,
            ssl_key=Path(server.tls_key_file) if server.tls_key_file else None,
        )
        tls = (server.tls_cert_file, server.tls_key_file)
        self._tls = None if None in tls else (Path(tls[0] or ""), Path(tls[1] or ""))
        self._load = load
        self._ready: Callable[[], None] | None = ready
        self._stops: list[int] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        limits = Limits(
            heartbeat_s=server.heartbeat_timeout_s,
            drain_s=server.drain_s,
            grace_s=server.grace_s,
            quiet_s=min(server.idle_timeout_s + 1, _LONGEST_QUIET_S),
        )
        self._direct_port = server.direct_port
        self._max_connections = max_connections
        self.pool = Pool(server.workers, self._spawn, limits, self._close_listeners)

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or a failure; return the exit code."""
        # Workers inherit what the supervisor has loaded; Python 3.14 forks only on request.
        multiprocessing.set_start_method("fork", force=True)
        self.serve(target_loader=self._unused_loader, wrap_loader=False)
        return 1 if self.pool.failed else 0

    def renew_tls(self) -> None:
        """Read the certificate again for workers that start later; an invalid one is ignored."""
        if self._tls is None:
            return
        try:
            # The paths may be links that now lead to other files.
            self.build_ssl_context(*self._tls, None, SSLProtocols.tls13, None, [], False)
        except OSError as failure:  # ssl.SSLError is one
            logger.error("certificate_rejected", extra={"reason": str(failure)})  # noqa: TRY400

    def signal_handler_interrupt(self, number: int, *_: object) -> None:
        """Record a signal for the loop; an Event could deadlock with the interrupted code."""
        self._stops.append(number)
        os.write(self._wake_write, b".")

    def _unused_loader(self) -> App:
        raise NotImplementedError

    def _init_shared_socket(self) -> None:
        self._listeners = open_listeners(self.bind_addr, self.bind_port, self.backlog, self.workers)
        self._direct: list[socket.socket] = []
        if self._direct_port is not None:
            self._direct = open_listeners(
                self.bind_addr, self._direct_port, self.backlog, self.workers, "server.direct_port"
            )
        # Only on Linux does Granian call `listen` again, with the backlog.
        more = (self.backlog,) if sys.platform == "linux" else ()
        self._holders = [
            SocketHolder(each.fileno(), False, *more)  # type: ignore[call-arg]
            for each in self._listeners
        ]
        self._ssp = self._sso = None

    def _drop_shared_socket(self) -> None:
        self._close_listeners()

    def _close_listeners(self) -> None:
        close_all([*self._listeners, *self._direct])

    def _spawn_workers(self, spawn_target: Callable[..., None], _: object) -> None:
        self._target = spawn_target
        self.pool.start()

    def _spawn(self, slot: int, state: WorkerState) -> Process:
        revision, supervisor = self.pool.revision, os.getpid()

        def load() -> App:
            port = self._listeners[slot].getsockname()[1]
            descriptor = keep_only(self._listeners, slot)
            link = WorkerLink(
                state,
                revision,
                supervisor,
                port,
                lambda: stop_accepting(descriptor),
                socket.socket(fileno=keep_only(self._direct, slot)) if self._direct else None,
                self._max_connections,
            )
            app = self._load(link)
            # Granian reads this name in the worker, after the call of `load`.
            _signals.set_loop_signals = partial(shutdown_signal, on_stop=app.stop_accepting)
            return app

        self.renew_tls()
        self._shd: Any = self._holders[slot]
        worker: Any = self._spawn_worker(slot, self._target, load)
        worker.start()
        return _GranianProcess(worker)

    def _serve_loop(self, *_: object) -> None:
        while not self.pool.ended:
            if select.select([self._wake_read], [], [], TICK_S)[0]:
                os.read(self._wake_read, 64)
            while self._stops:
                # Ctrl-C ends without the drain period: no balancer sends calls to a terminal.
                self.pool.stop(monotonic(), drain=self._stops.pop(0) == signal.SIGTERM)
            self.pool.tick(monotonic())
            if self._ready is not None and self.pool.all_started and self.pool.workers:
                ready, self._ready = self._ready, None
                ready()

    def _stop_workers(self) -> None:
        # The pool has ended them; Granian's own list of failed ones would become its exit code.
        self.interrupt_children.clear()


def shutdown_signal(loop: AbstractEventLoop, on_stop: Callable[[], None]) -> WorkerSignal:
    """
    Return Granian's shutdown event, which the first SIGTERM or SIGINT sets.

    Granian's own handlers set it upon every signal, and `set` waits until an earlier one has been
    taken: a second signal would block the event loop for ever. Two at once are usual: Ctrl-C goes
    to the whole process group, systemd stops a whole control group, and the supervisor terminates
    its workers as well.

    Args:
        loop: The worker's.
        on_stop: Called with the first signal; Granian stops accepting by itself.
    """
    event = WorkerSignal()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            on_stop()
            event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return event


class _GranianProcess:
    """A `Process` around Granian's."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    @property
    def pid(self) -> int:
        pid: int = self._worker.inner.pid
        return pid

    def is_alive(self) -> bool:
        alive: bool = self._worker.is_alive()
        return alive

    def terminate(self) -> None:
        self._worker.terminate()

    def kill(self) -> None:
        self._worker.kill()


def _logging(log_format: LogFormat) -> dict[str, Any]:
    return {
        "formatters": {"gateway": {"()": formatter, "log_format": log_format}},
        "handlers": {
            "gateway": {
                "class": "logging.StreamHandler",
                "formatter": "gateway",
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {"_granian": {"handlers": ["gateway"], "propagate": False}},
    }

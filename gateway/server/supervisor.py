"""
The supervisor: the process that `capio serve` runs, and its child processes.

    capio serve
      ├─ embedded Valkey           only when redis.url = "embedded"
      ├─ N Granian workers         each runs `worker.Worker`
      ├─ ledger writer             Redis stream -> SQL
      ├─ console                   the pages for people, unless console.enabled = false
      └─ metrics server            sums the metrics of all processes

Granian's loop runs in the main thread and handles signals: SIGTERM and SIGINT drain the workers. A
thread restarts other children that exit, and on SIGHUP reads the configuration again and sends it
to the workers without interrupting calls. Children run in their own sessions, so that a terminal's
SIGINT does not reach them, and are stopped after the workers have drained.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer as Granian

from gateway.server.child import Child
from gateway.server.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from gateway.server.environment import helper_environment, ledger_environment
from gateway.server.file_limit import claim_files
from gateway.settings import ConfigError, Settings
from gateway.settings.embedded import is_redis_embedded
from gateway.settings.service import LogFormat
from gateway.signals import block_stop_signals, end_with_parent, unblock_stop_signals
from gateway.telemetry.logs import formatter
from gateway.tokens.counters import load_counters
from gateway.worker import Worker

logger = logging.getLogger(__name__)

MULTIPROC_ENV = "PROMETHEUS_MULTIPROC_DIR"
_RELOADED = frozenset({"providers", "models"})
"""Sections that a reload applies; the others apply from the next start."""
_WATCH_S = 0.5
MAX_HEAD_BYTES = 64 * 1024
"""Request heads up to this size are accepted; Granian responds 431 above at most twice this."""


class _StartCount:
    """
    Counts the workers that have started, by a pipe that they inherit.

    Args:
        workers: How many there are.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._read, self._write = os.pipe()
        # A replacement worker writes, too, when nothing reads the pipe any more.
        os.set_blocking(self._write, False)

    def report(self) -> None:
        """Count this worker; called in its process."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b".")

    def wait(self, ready: Callable[[], None]) -> None:
        """Call `ready` once all workers have started."""
        for _ in range(self._workers):
            os.read(self._read, 1)
        ready()


class Supervisor:
    """
    Runs all processes of one configuration.

    Args:
        settings: Checked.
        reload: Returns the new configuration on SIGHUP; ConfigError keeps the current one.
        extra: Additional children, started before the workers.
    """

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None = None,
        extra: list[Child] | None = None,
    ) -> None:
        self.settings = settings
        self._reload = reload
        self._data_dir = Path(settings.server.data_dir).absolute()
        self._valkey = EmbeddedValkey(self._data_dir) if is_redis_embedded(settings) else None
        self._extra = extra or []
        self._children: list[Child] = []
        self._console: Child | None = None
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._hangup = threading.Event()
        self._pid = os.getpid()
        # Loaded before the workers fork, so that they share its 40 MB.
        self._counters = load_counters()
        self._runtime = self._data_dir / "run" / "settings.json"
        self._starts = _StartCount(settings.server.workers)

    def run(self, ready: Callable[[], None] | None = None) -> int:
        """
        Serve until SIGTERM or SIGINT; return the exit code.

        Args:
            ready: Called once, in a thread, when all workers have started.

        Raises:
            FileLimitError: The limit on open files is too low.
        """
        max_connections = claim_files(self.settings)
        self._prepare()
        gc.freeze()
        watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        server = self._granian(max_connections)
        try:
            self._start_children()
            watcher.start()
            if ready is not None:
                threading.Thread(
                    target=self._starts.wait, args=(ready,), name="ready", daemon=True
                ).start()
            server.on_startup(lambda: self._install_hangup_handler(server))
            os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals)
            server.serve(target_loader=self.load_app, wrap_loader=False)
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            self._stopping.set()
            self._stop_children()
            self._stopped.set()
        return 0

    def load_app(self) -> Callable[..., Any]:
        """Return the ASGI application; called in each worker process."""
        end_with_parent(self._pid)
        return Worker(self.settings, self._counters, self._runtime, self._starts.report)

    def _prepare(self) -> None:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        metrics_dir = self._data_dir / "run" / "metrics"
        shutil.rmtree(metrics_dir, ignore_errors=True)
        metrics_dir.mkdir(mode=0o700, parents=True)
        os.environ[MULTIPROC_ENV] = str(metrics_dir)
        self._write_settings()

    def _write_settings(self) -> None:
        """Write the checked settings, which contain no secrets, for the children."""
        new = self._runtime.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self.settings))
        new.replace(self._runtime)

    def _start_children(self) -> None:
        metrics = self.settings.metrics
        exporter = [sys.executable, "-m", "gateway.server.metrics_process"]
        exporter += [os.environ[MULTIPROC_ENV], metrics.host, str(metrics.port)]
        ledger = [sys.executable, "-m", "gateway.server.ledger_process", str(self._runtime)]
        bare = helper_environment(self.settings, os.environ)
        for_ledger = ledger_environment(self.settings, os.environ)
        self._children = [
            *self._extra,
            Child("metrics", exporter, environment=bare),
            Child("ledger", ledger, environment=for_ledger),
        ]
        if self.settings.console.enabled:
            pages = [sys.executable, "-m", "gateway.console", str(self._runtime)]
            self._console = Child("console", pages, environment=for_ledger)
            self._children.append(self._console)
        if self._valkey is not None:
            self._valkey.start()
        for child in self._children:
            child.start()

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            if self._hangup.is_set():
                self._hangup.clear()
                self._reload_config()
            if self._valkey is not None:
                try:
                    if self._valkey.ensure_running():
                        logger.warning("child_restarted", extra={"child": "valkey"})
                except EmbeddedValkeyError as failure:
                    logger.error("child_failed", extra={"child": "valkey", "reason": str(failure)})  # noqa: TRY400
            for child in self._children:
                if not self._stopping.is_set() and child.ensure_running():
                    logger.warning("child_restarted", extra={"child": child.name})
        # On Linux the parent-death signal is tied to the thread that started a child: this thread
        # must outlive the children that it restarted.
        self._stopped.wait()

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            child.stop()
        if self._valkey is not None:
            self._valkey.stop()

    def _install_hangup_handler(self, server: Granian) -> None:
        """Reload the configuration on SIGHUP; Granian's handler would replace the workers."""
        can_reload = self._reload is not None
        signal.signal(
            signal.SIGHUP,
            (lambda *_: self._hangup.set()) if can_reload else server.signal_handler_interrupt,
        )

    def _reload_config(self) -> None:
        """Apply a new configuration to running workers and to those started later."""
        assert self._reload is not None
        try:
            settings = self._reload()
        except ConfigError as failure:
            logger.error("config_rejected", extra={"errors": failure.errors})  # noqa: TRY400
            return
        deferred = [
            name
            for name in settings.__struct_fields__
            if name not in _RELOADED and getattr(settings, name) != getattr(self.settings, name)
        ]
        self.settings = msgspec.structs.replace(
            self.settings, providers=settings.providers, models=settings.models
        )
        self._write_settings()
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGHUP)
        if self._console is not None:
            self._console.hang_up()
        logger.info("config_reloaded", extra={"from_the_next_start": deferred})

    def _granian(self, max_connections: int) -> Granian:
        server = self.settings.server
        return Granian(
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
                header_read_timeout=round(server.header_timeout_s * 1000),
                max_buffer_size=MAX_HEAD_BYTES,
            ),
            log_level=LogLevels.warning,
            log_dictconfig=_granian_logging(server.log_format),
            ssl_cert=Path(server.tls_cert_file) if server.tls_cert_file else None,
            ssl_key=Path(server.tls_key_file) if server.tls_key_file else None,
            respawn_failed_workers=True,
            respawn_interval=0.5,
            workers_kill_timeout=max(1, round(server.grace_s)),
        )


def _granian_logging(log_format: LogFormat) -> dict[str, Any]:
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


def _block_signals() -> None:
    # The main thread forks the workers; `gateway.worker` unblocks the signals.
    if threading.current_thread() is threading.main_thread():
        block_stop_signals()


def _unblock_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        unblock_stop_signals()

"""
The supervisor: the process that `capio serve` runs, and its child processes.

    capio serve
      ├─ embedded Valkey           only when redis.url = "embedded"
      ├─ N Granian workers         each runs `worker.Worker`
      ├─ ledger writer             Redis stream -> SQL, unless server.ledger_writer is false
      ├─ console                   the pages for people and the admin API, unless both are off
      └─ metrics server            sums the metrics of all processes

The main thread runs the workers, see `server.workers`, and handles signals: SIGTERM and SIGINT
drain the workers. A thread restarts other children that exit, and reads the configuration again on
SIGHUP and when its file changes; another one takes commands, see `server.control`. Children run in
their own sessions, so that a terminal's SIGINT does not reach them, and are stopped after the
workers have drained.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import msgspec

from gateway import __version__
from gateway.server.child import Child
from gateway.server.config_file import ConfigFile
from gateway.server.control import ControlServer, Reply, refusal, run_dir
from gateway.server.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from gateway.server.environment import (
    console_environment,
    helper_environment,
    ledger_environment,
    traces_environment,
)
from gateway.server.file_limit import claim_files
from gateway.server.workers.granian_server import WorkerServer
from gateway.settings import ConfigError, Settings
from gateway.settings.embedded import is_redis_embedded
from gateway.signals import block_stop_signals, end_with_parent, unblock_stop_signals
from gateway.telemetry.metrics import Metrics, fix_process
from gateway.tokens.counters import load_counters
from gateway.worker import Worker
from gateway.worker_state import WorkerLink

logger = logging.getLogger(__name__)

MULTIPROC_ENV = "PROMETHEUS_MULTIPROC_DIR"
_RELOADED = frozenset({"providers", "models"})
"""Sections that a reload applies; the others apply from the next start."""
_WATCH_S = 0.5
_APPLY_S = 10.0
"""How long workers may take to apply a configuration before a reload counts as failed."""
_RESTART_S = 60.0
"""How long the start of one worker may take before a restart counts as failed."""
_POLL_S = 0.05
_STOP_S = 15.0
"""How long all children may take to end."""


class Supervisor:
    """
    Runs all processes of one configuration.

    Args:
        settings: Checked.
        reload: Returns the new configuration; ConfigError keeps the current one. None: there is no
            file to read again.
        extra: Additional children, started before the workers.
        config_path: The file, watched if `server.watch_config`.
    """

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None = None,
        extra: list[Child] | None = None,
        config_path: Path | None = None,
    ) -> None:
        self.settings = settings
        self._reload = reload
        self._config_path = config_path
        self._file: ConfigFile | None = None
        if reload is not None and config_path is not None and settings.server.watch_config:
            self._file = ConfigFile(config_path)
        self._data_dir = Path(settings.server.data_dir).absolute()
        self._valkey = EmbeddedValkey(self._data_dir) if is_redis_embedded(settings) else None
        self._extra = extra or []
        self._children: list[Child] = []
        self._console: Child | None = None
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._digest = ""
        self._hangup = False
        self._reloading = threading.Lock()
        self._pid = os.getpid()
        self._since = monotonic()
        # Loaded before the workers fork, so that they share its 40 MB.
        self._counters = load_counters()
        self._runtime = run_dir(self._data_dir) / "settings.json"
        self._server: WorkerServer | None = None
        self._control = ControlServer(
            run_dir(self._data_dir),
            {
                "reload": self._on_reload,
                "drain": self._on_drain,
                "restart": self._on_restart,
                "status": self._on_status,
            },
        )

    def run(self, ready: Callable[[], None] | None = None) -> int:
        """
        Serve until SIGTERM or SIGINT; return the exit code.

        Args:
            ready: Called once, when all workers have started.

        Raises:
            FileLimitError: The limit on open files is too low.
            ListenError: The address cannot be used.
        """
        max_connections = claim_files(self.settings)
        self._prepare()
        gc.freeze()
        watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._server = server = WorkerServer(
            self.settings, max_connections, self.load_app, ready or _do_nothing
        )
        try:
            self._start_children()
            watcher.start()
            server.on_startup(self._install_hangup_handler)
            self._control.start()
            os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals)
            return server.run()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            self._control.stop()
            self._stopping.set()
            self._stop_children()
            self._stopped.set()

    def load_app(self, link: WorkerLink) -> Worker:
        """Return the ASGI application; called in each worker process."""
        end_with_parent(self._pid)
        return Worker(self.settings, self._counters, self._runtime, link)

    def _prepare(self) -> None:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        metrics_dir = self._data_dir / "run" / "metrics"
        shutil.rmtree(metrics_dir, ignore_errors=True)
        metrics_dir.mkdir(mode=0o700, parents=True)
        os.environ[MULTIPROC_ENV] = str(metrics_dir)
        fix_process(self._pid)
        self._metrics = Metrics()
        self._metrics.build_info.labels(__version__, platform.python_version()).set(1)
        self._note_applied()
        for result in ("applied", "rejected", "not_applied"):
            self._metrics.config_reloads.labels(result)  # an alert needs the zero before the one
        self._write_settings()

    def _note_applied(self) -> None:
        """Let the metrics say which configuration is applied, and since when."""
        digest = hashlib.sha256(msgspec.json.encode(self.settings)).hexdigest()[:12]
        if digest != self._digest:
            if self._digest:
                self._metrics.config_info.labels(self._digest).set(0)
            self._metrics.config_info.labels(digest).set(1)
            self._digest = digest
        self._metrics.config_applied_at.set(time.time())

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
        self._children = [*self._extra, Child("metrics", exporter, environment=bare)]
        if self.settings.server.ledger_writer:
            self._children.append(Child("ledger", ledger, environment=for_ledger))
        if self.settings.telemetry.otlp_endpoint is not None:
            traces = [sys.executable, "-m", "gateway.server.trace_process", str(self._runtime)]
            self._children.append(
                Child("traces", traces, environment=traces_environment(self.settings, os.environ))
            )
        if self.settings.runs_console:
            pages = [sys.executable, "-m", "gateway.console", str(self._runtime)]
            if self._config_path is not None:
                pages.append(str(self._config_path.absolute()))
            self._console = Child(
                "console", pages, environment=console_environment(self.settings, os.environ)
            )
            self._children.append(self._console)
        if self._valkey is not None:
            self._valkey.start()
        for child in self._children:
            child.start()

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            if self._hangup:
                self._hangup = False
                self.reload("SIGHUP")
            elif self._file is not None and self._file.has_changed():
                self.reload("file")
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
        # The workers have ended, so the ledger writer empties the streams now, and the others end
        # meanwhile. Valkey, which they use, ends last.
        for child in self._children:
            child.terminate()
        deadline = monotonic() + _STOP_S
        for child in self._children:
            child.join(max(deadline - monotonic(), 0.0))
        if self._valkey is not None:
            self._valkey.stop()

    def _install_hangup_handler(self) -> None:
        """Reload the configuration on SIGHUP; without a file, SIGHUP stops the gateway."""
        assert self._server is not None
        stop = self._server.signal_handler_interrupt
        signal.signal(signal.SIGHUP, self._hang_up if self._reload is not None else stop)

    def _hang_up(self, *_: object) -> None:
        self._hangup = True

    def reload(self, cause: str) -> Reply:
        """Apply a new configuration to running workers and to those started later."""
        with self._reloading:
            if self._reload is None:
                return refusal("This gateway has no configuration file.")
            if self._file is not None:
                self._file.note_read()
            try:
                settings = self._reload()
            except ConfigError as failure:
                self._metrics.config_reloads.labels("rejected").inc()
                logger.error("config_rejected", extra={"errors": failure.errors, "cause": cause})  # noqa: TRY400
                return refusal(*failure.errors)
            return self._apply(settings, cause)

    def _apply(self, settings: Settings, cause: str) -> Reply:
        assert self._server is not None
        pool = self._server.pool
        deferred = [
            name
            for name in settings.__struct_fields__
            if name not in _RELOADED and getattr(settings, name) != getattr(self.settings, name)
        ]
        self.settings = msgspec.structs.replace(
            self.settings, providers=settings.providers, models=settings.models
        )
        self._write_settings()
        pool.revision += 1
        if self._console is not None:
            self._console.hang_up()
        applied, rejected = self._wait_applied(pool.revision)
        found = {"cause": cause, "workers": applied, "from_the_next_start": deferred}
        if rejected:
            self._metrics.config_reloads.labels("not_applied").inc()
            logger.error("config_apply_failed", extra={**found, "not_applied": rejected})
            return refusal(
                f"{rejected} workers keep the old configuration. See catalogue_reload_failed in the"
                " log."
            )
        self._metrics.config_reloads.labels("applied").inc()
        self._note_applied()
        logger.info("config_reloaded", extra=found)
        return {"ok": True, **found}

    def _wait_applied(self, revision: int) -> tuple[int, int]:
        """Return how many workers serve a revision, and how many do not."""
        assert self._server is not None
        deadline = monotonic() + _APPLY_S
        while True:
            states = [member.state for member in self._server.pool.workers]
            waiting = any(state.applied < revision > state.rejected for state in states)
            if not waiting or monotonic() > deadline or self._stopping.is_set():
                # A worker that is still starting applies it before its first call.
                kept = sum(state.started and state.applied < revision for state in states)
                return len(states) - kept, kept
            sleep(_POLL_S)

    def _on_reload(self, _: dict[str, object]) -> Reply:
        return self.reload("command")

    def _on_drain(self, request: dict[str, object]) -> Reply:
        assert self._server is not None
        pool = self._server.pool
        pool.draining = request.get("on") is not False
        logger.info("drain_started" if pool.draining else "drain_cancelled")
        return {"ok": True, "draining": pool.draining, "workers": len(pool.workers)}

    def _on_status(self, _: dict[str, object]) -> Reply:
        assert self._server is not None
        pool, now = self._server.pool, monotonic()
        workers = [
            {
                "pid": member.process.pid,
                "phase": member.state.phase.name.lower() if member.state.started else "starting",
                # How long ago its event loop last ran.
                "silent_s": round(now - member.state.beat, 3) if member.state.started else None,
                "revision": member.state.applied,
            }
            for member in pool.workers
        ]
        return {
            "ok": True,
            "version": __version__,
            "pid": self._pid,
            "up_s": round(now - self._since),
            "draining": pool.draining,
            "revision": pool.revision,
            "leaving": pool.leaving,
            "workers": workers,
        }

    def _on_restart(self, _: dict[str, object]) -> Reply:
        assert self._server is not None
        pool = self._server.pool
        logger.info("restart_started", extra={"workers": len(pool.workers)})
        pool.replace_all()
        deadline = monotonic() + _RESTART_S * len(pool.workers)
        while pool.replacing and not self._stopping.is_set():
            if monotonic() > deadline:
                return refusal("A new worker did not start in time. See the log.")
            sleep(_POLL_S)
        if pool.replacement_failed or self._stopping.is_set():
            return refusal("A new worker could not start; the old one still serves. See the log.")
        logger.info(
            "restart_completed", extra={"workers": len(pool.workers), "leaving": pool.leaving}
        )
        return {"ok": True, "workers": len(pool.workers), "leaving": pool.leaving}


def _do_nothing() -> None:
    """No one waits for the start."""


def _block_signals() -> None:
    # The main thread forks the workers; `gateway.worker` unblocks the signals.
    if threading.current_thread() is threading.main_thread():
        block_stop_signals()


def _unblock_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        unblock_stop_signals()

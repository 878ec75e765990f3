"""The gateway as its users start it: `capio serve` on free ports, in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.commands import COMMANDS
from tests.support.forked import FORKS, ForkedProcess
from tests.support.postgres import copy_migrated

START_S = 30.0
STOP_S = 30.0


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


SCRIPTED_ROUTING = """[routing]
retries = 0
probes = false
breaker_failures = 1000
out_probe_s = 0.05
max_rest_s = 0.05
"""
"""Each request of a test reaches its scripted upstream once, and no other request does."""


class GatewayProcess:
    """
    One `capio serve` with its children.

    Args:
        home: Where its config, data and log go.
        config: TOML of providers and models; the listening sections are added.
        workers: Worker processes.
        server, extra: Further TOML of `[server]`, and of whole sections. Without a section
            `[routing]` it is `SCRIPTED_ROUTING`; without `[console]` there is no console; without
            `[redis]` its commands have 400 ms; without `max_loop_lag_ms` no lag refuses calls;
            idle connections are closed after 6 s.
        environment: Added to this process's own.
        direct: Whether it has a direct port.
        open_files: Its limit on open files, soft and hard; None leaves that of this process.
        forked: Whether it is a fork (see `tests.support.forked`) rather than a Python of its own.
        python: The interpreter of one that is no fork.
    """

    def __init__(
        self,
        home: Path,
        config: str,
        *,
        workers: int = 2,
        server: str = "",
        extra: str = "",
        environment: dict[str, str] | None = None,
        direct: bool = False,
        open_files: int | None = None,
        forked: bool = True,
        python: str = sys.executable,
    ) -> None:
        self._environment = environment or {}
        self._limit = ["prlimit", f"--nofile={open_files}"] if open_files else []
        self._forked = forked and not open_files
        self._python = python
        self.home = home
        self.port = free_port()
        self.metrics_port = free_port()
        self.direct_port = free_port() if direct else 0
        self.data_dir = home / "data"
        self.config_path = home / "capio.toml"
        self.log_path = home / "gateway.log"
        self.tls: ssl.SSLContext | None = None
        """How to reach it over TLS; None: it speaks plain HTTP."""
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        home.mkdir(parents=True, exist_ok=True)
        if "[console]" not in extra + config:
            extra += f"\n[console]\nenabled = false\nport = {free_port()}\n"
        # Beside other tests a loop is late for want of CPU, which is no overload.
        times = "" if "max_loop_lag_ms" in server else "max_loop_lag_ms = 0\n"
        times += "" if "drain_s" in server else "drain_s = 0\n"
        if "idle_timeout_s" not in server and "header_timeout_s" not in server:
            times += "idle_timeout_s = 6.0\n"  # replaced workers wait for idle clients
        if direct:
            times += f"direct_port = {self.direct_port}\n"
        if "[redis]" not in extra + config:
            # For want of CPU a reply may take longer than the default, which refuses calls.
            extra += "\n[redis]\ncommand_timeout_ms = 400\n"
        self._is_embedded = "[sql]" not in extra + config
        routing = "" if "[routing]" in extra + config else SCRIPTED_ROUTING
        self.config_path.write_text(
            f"[server]\nport = {self.port}\nworkers = {workers}\n"
            f"data_dir = {json.dumps(str(self.data_dir))}\n{times}{server}\n"
            f"[metrics]\nport = {self.metrics_port}\n{extra}\n{routing}\n{config}\n"
        )

    @property
    def base_url(self) -> str:
        """Where it listens, without a path."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> GatewayProcess:
        """Start and wait until it is ready."""
        self.launch()
        self.wait_ready()
        if "[admin]" in self.config_path.read_text():
            self.wait_admin()
        return self

    def launch(self) -> None:
        """Start."""
        if self._is_embedded and not (self.data_dir / "capio.db").exists():
            copy_migrated(self.data_dir)
        arguments = ["serve", "--config", str(self.config_path)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self._environment}
        if self._forked:
            self._process = FORKS.start("gateway.cli", arguments, self.log_path, environment)
            return
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._limit, self._python, "-m", "gateway.cli", *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until `/readyz` says yes."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the gateway ended: {self.log()[-4000:]}")
            try:
                url = f"{self.base_url}/readyz"
                with urllib.request.urlopen(url, timeout=1, context=self.tls) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"the gateway is not ready: {self.log()[-4000:]}")

    def wait_admin(self, timeout_s: float = START_S) -> None:
        """Wait until the process of the admin API serves it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.base_url}/admin/x", timeout=5, context=self.tls)
            except urllib.error.HTTPError as answer:
                answer.close()
                if answer.code != 503:
                    return
            time.sleep(0.05)
        raise AssertionError(f"there is no admin API: {self.log()[-4000:]}")

    def wait_console(self, timeout_s: float = START_S) -> None:
        """Wait until the pages are served."""
        deadline = time.monotonic() + timeout_s
        request = urllib.request.Request(f"{self.base_url}/nothing")
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(request, timeout=5, context=self.tls)
            except urllib.error.HTTPError as answer:
                answer.close()
                if answer.code == 404:
                    return
            time.sleep(0.05)
        raise AssertionError(f"there is no console: {self.log()[-4000:]}")

    def capio(self, *arguments: str) -> str:
        """Run a command of the command line with this config; return what it prints."""
        done = COMMANDS.run(*arguments, "--config", str(self.config_path))
        if done.code != 0:
            raise AssertionError(f"capio {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for its end; return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Drain and end it; kill what is left."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def children(self) -> dict[int, str]:
        """Return the running descendants: process id -> command line."""
        found: dict[int, str] = {}
        parents = {self.pid}
        for _ in range(3):
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit() or int(entry.name) in found:
                    continue
                try:
                    stat = (entry / "stat").read_text()
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if int(stat.rpartition(")")[2].split()[1]) in parents:
                    found[int(entry.name)] = line
            parents |= set(found)
        return found

    def workers(self) -> list[int]:
        """Return the process ids of the Granian workers: forks, with the supervisor's own line."""
        own = Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return [pid for pid, line in self.children().items() if line == own]

    def metrics(self) -> str:
        """Return the Prometheus text."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def log(self) -> str:
        """Return what it wrote to its log."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

"""A helper process of the supervisor, in a session of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping

from gateway.signals import PARENT_PID

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077
"""Files that the gateway creates are readable by its user only."""
_LISTEN_S = 10.0
_POLL_S = 0.02


class Child:
    """
    A helper process that is restarted when it exits.

    Args:
        name: Shown in the log.
        command: Program and arguments.
        port: Port on the loopback interface that `start` waits for; None does not wait.
        environment: The process's environment, see `helper_environment`.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int | None = None,
        *,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self._command = command
        self._port = port
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process in its own session and wait up to `_LISTEN_S` seconds for its port."""
        self._process = subprocess.Popen(  # noqa: S603 (ours)
            self._command,
            start_new_session=True,
            env={**self._environment, PARENT_PID: str(os.getpid())},
            umask=PRIVATE_UMASK,
        )
        until = time.monotonic() + _LISTEN_S
        while self._port is not None and not _listens(self._port) and time.monotonic() < until:
            time.sleep(_POLL_S)

    def ensure_running(self) -> bool:
        """Restart the process if it has exited; return whether it had."""
        if self._process is not None and self._process.poll() is None:
            return False
        self.start()
        return True

    def hang_up(self) -> None:
        """Send SIGHUP, upon which the process reads its settings again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Send SIGTERM; `join` waits for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the process; send SIGKILL after `timeout_s`."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("child_killed", extra={"child": self.name})
            self._process.kill()
            self._process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

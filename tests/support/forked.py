"""
Starts `python -m MODULE` processes as forks of one process that has imported the gateway.

The import costs over a second of CPU, and the process tests start some hundred gateways. A fork has
a session, an environment and a log of its own, as a process that is started from a shell.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

from tests.support.line_server import LineServer

IMPORTED: Final = ("gateway.cli.main", "gateway.cli.process.serving")
_ENDED_S: Final = 10.0


class ForkedProcess:
    """
    A running module, with the methods of `subprocess.Popen` that the tests use.

    Args:
        pid: Its process id.
        code_path: The file that its exit code is written to.
    """

    def __init__(self, pid: int, code_path: Path) -> None:
        self.pid = pid
        self._code_path = code_path
        self._handle = os.pidfd_open(pid)
        self._code: int | None = None

    def __del__(self) -> None:
        os.close(self._handle)

    def poll(self) -> int | None:
        """Return the exit code; None: it is running."""
        return self._code if self._ends_within(0) else None

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end; return the exit code."""
        if not self._ends_within(timeout_s):
            raise subprocess.TimeoutExpired("capio", timeout_s or 0)
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ends_within(self, timeout_s: float | None) -> bool:
        if self._code is None and select.select([self._handle], [], [], timeout_s)[0]:
            # Its parent writes the code as soon as it has reaped the process.
            until = time.monotonic() + _ENDED_S
            while not self._code_path.exists() and time.monotonic() < until:
                time.sleep(0.005)
            self._code = int(self._code_path.read_text())
            self._code_path.unlink()
        return self._code is not None


class ForkServer(LineServer):
    """The process that forks, started with the first request; one for a test process."""

    def __init__(self) -> None:
        super().__init__("tests.support.forked")

    def start(
        self, module: str, arguments: list[str], log: Path, environment: dict[str, str]
    ) -> ForkedProcess:
        """
        Run a module with these arguments, in a session of its own.

        Args:
            module: As for `python -m`.
            arguments: What follows it.
            log: Both outputs are appended to it.
            environment: The whole environment.
        """
        code_path = log.with_name(f"{log.name}.exit")
        asked = {
            "module": module,
            "arguments": arguments,
            "log": str(log),
            "code_path": str(code_path),
            "environment": environment,
            "directory": os.getcwd(),
        }
        line = self.request(asked)
        return ForkedProcess(int(line), code_path)


FORKS: Final = ForkServer()


def serve(asked: int, answers: int) -> None:
    """Start a process for each line until the input ends; write the exit codes of ended ones."""
    for module in IMPORTED:
        importlib.import_module(module)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, str] = {}
    buffer = b""
    while True:
        ready = select.select([asked, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4096)
            _reap(running)
        if asked not in ready:
            continue
        piece = os.read(asked, 1 << 16)
        if not piece:
            return
        *lines, buffer = (buffer + piece).split(b"\n")
        for line in lines:
            call = json.loads(line)
            pid = os.fork()
            if pid == 0:
                os.close(ended)
                os.close(wake)
                _become(call)
            running[pid] = call["code_path"]
            os.write(answers, b"%d\n" % pid)


def _reap(running: dict[int, str]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        path = Path(running.pop(pid))
        # The directory of a finished test may be gone.
        with contextlib.suppress(OSError):
            made = path.with_name(f"{path.name}.new")
            made.write_text(str(os.waitstatus_to_exitcode(status)))
            made.rename(path)


def _become(call: dict[str, Any]) -> None:
    """Turn the forked process into the module; does not return."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(call["directory"])
    log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.environ.clear()
    os.environ.update(call["environment"])
    sys.argv = [call["module"], *call["arguments"]]
    code: object = 1
    try:
        runpy.run_module(call["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    except BaseException:  # noqa: BLE001 -- the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(sys.stdin.fileno(), sys.stdout.fileno())

"""A helper process that gets a request per line on its input, and replies with a line."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path

END_S = 60.0


class LineServer:
    """
    Runs `python -m MODULE` from the first request on; one for a test process.

    Args:
        module: Serves until its input ends.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def request(self, asked: object) -> bytes:
        """Send a request as JSON; return the reply's line."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        assert line, f"{self._module} has ended"
        return line

    def stop(self) -> None:
        """End the server by the end of its input."""
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                assert self._process.stdout is not None
                self._process.stdin.close()
                self._process.wait(END_S)
                self._process.stdout.close()
                self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            atexit.register(self.stop)
        return self._process

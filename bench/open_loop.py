"""
The open-loop load generator: requests start at their time, regardless of earlier ones.

A closed loop slows down with what it measures and so cannot overload it. Here each request takes an
idle connection or opens one, and its time runs from the moment at which it was due.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field

from bench.load import Connection
from tests.support.waiting import wait_until

MAX_CONNECTIONS = 6000
UNCONNECTED, NEW_CLOSED, KEPT_CLOSED, CUT = 0, -1, -2, -3
BROKEN = {
    UNCONNECTED: "not connected",
    NEW_CLOSED: "new connection closed before a response",
    KEPT_CLOSED: "kept connection closed before a response",
    CUT: "connection closed in a response",
}
"""What stands in for the status of a request without a whole response."""
_STEP_S = 0.001


@dataclass
class Sample:
    """One request: when it was due since the start of the run, how long it took, and its status."""

    due_s: float
    seconds: float
    status: int
    """Of the response, or a key of `BROKEN`."""


@dataclass
class Phase:
    """The results of the requests at one rate."""

    samples: list[Sample] = field(default_factory=list)
    unsent: int = 0
    """Requests that were due while all connections were in use."""
    late_s: float = 0.0
    """The longest delay of the generator itself."""


class _Client(Connection):
    """Sends requests one after the other, each when it is due."""

    def __init__(self, pool: OpenLoop) -> None:
        super().__init__()
        self._pool = pool
        self.due_at = 0.0
        self.phase: Phase | None = None
        self._served = 0

    def completed(self) -> None:
        self._served += 1
        self._note(self.status)
        self._pool.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.phase is not None:
            self._note(self._broken())
        elif self in self._pool.idle:
            self._pool.idle.remove(self)
        self._pool.opened -= 1

    def _broken(self) -> int:
        if self._need >= 0:
            return CUT
        return KEPT_CLOSED if self._served else NEW_CLOSED

    def _note(self, status: int) -> None:
        phase, self.phase = self.phase, None
        if phase is not None:
            took_s = time.perf_counter() - self.due_at
            phase.samples.append(Sample(self.due_at - self._pool.started_at, took_s, status))
            self._pool.running -= 1


class OpenLoop:
    """
    Sends one request at a given rate.

    Args:
        port: Of the server on this machine.
        request: Head and body.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._opening: set[asyncio.Task[None]] = set()
        self.idle: list[_Client] = []
        self.opened = 0
        self.running = 0
        self.started_at = time.perf_counter()

    async def run(self, per_s: float, seconds: float) -> Phase:
        """Send `per_s` requests a second, evenly; return without waiting for the last ones."""
        phase = Phase()
        began = time.perf_counter()
        sent = 0
        while True:
            now = time.perf_counter() - began
            wanted = int(min(now, seconds) * per_s)
            if sent < wanted:
                phase.late_s = max(phase.late_s, now - sent / per_s)
            while sent < wanted:
                self._send(began + sent / per_s, phase)
                sent += 1
            if now >= seconds:
                return phase
            await asyncio.sleep(_STEP_S)

    async def settle(self, timeout_s: float) -> None:
        """Wait until no request runs."""
        await wait_until(lambda: not self.running, timeout_s)

    def close(self) -> None:
        """Close the connections that are idle."""
        for client in self.idle:
            client.close()

    def _send(self, due_at: float, phase: Phase) -> None:
        if self.idle:
            self._begin(self.idle.pop(), due_at, phase)
        elif self.opened < MAX_CONNECTIONS:
            self.opened += 1
            task = asyncio.create_task(self._open(due_at, phase))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            phase.unsent += 1

    async def _open(self, due_at: float, phase: Phase) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(
                lambda: _Client(self), "127.0.0.1", self._port, family=socket.AF_INET
            )
        except OSError:
            self.opened -= 1
            took_s = time.perf_counter() - due_at
            phase.samples.append(Sample(due_at - self.started_at, took_s, UNCONNECTED))
            return
        self._begin(client, due_at, phase)

    def _begin(self, client: _Client, due_at: float, phase: Phase) -> None:
        client.due_at, client.phase = due_at, phase
        self.running += 1
        client.send(self._request)

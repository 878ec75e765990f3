"""
Closes connections whose first request head does not arrive in time.

Granian has one timer for request heads and for idle connections. It is set to the longer idle
timeout, so that a load balancer closes idle connections before the gateway does. Connections that
have sent no whole head yet have a shorter limit here, since anyone can open them.

Granian's connections are invisible to Python: they are found among the descriptors of the process.
A connection counts as served once a request of its port has reached the application; two clients
with the same port share that, in their favour.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from time import monotonic, sleep

logger = logging.getLogger(__name__)

SCAN_S = 1.0
"""How often connections are looked through; the limit is exceeded by up to twice of it."""
_SCAN_S_PER_CONNECTION = 0.0005
"""Makes scans of thousands of connections rarer: one costs about 4 us per connection."""
_PULSE_S = 0.5
"""Between two ticks of an event loop that is not blocked, generously."""
_BATCH = 256
"""After this many descriptors, other threads may run."""
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


class FirstHeads:
    """
    The connections of one worker that have not sent a request yet.

    Args:
        port: The port on which the worker listens.
        limit_s: How long a connection may take for its first head.
    """

    def __init__(self, port: int, limit_s: float) -> None:
        self._port = port
        self._limit_s = limit_s
        # The scan during which a request of a client's port last arrived.
        self._served: dict[int, int] = {}
        self._scan = 0
        # Of connections without a request: descriptor, client's port and inode.
        self._ages: dict[tuple[int, int, int], float] = {}
        self._scanned_at = monotonic()
        self._wait_s = SCAN_S
        self._is_due = False
        self._wake = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="first-heads", daemon=True)

    def start(self) -> None:
        """Start the thread that looks through the connections."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._wake.set()

    def note(self, client: tuple[str, int | str] | None) -> None:
        """Note that a whole request head of this client has arrived."""
        if client is not None:
            # Granian 2.8 gives the port as text.
            self._served[int(client[1])] = self._scan

    def tick(self) -> None:
        """
        Let a scan begin if it is due; called by the event loop several times a second.

        A scan begins a tick after it is due: requests that arrived while the loop was blocked have
        been noted by then.
        """
        if self._is_due:
            self._is_due = False
            self._wake.set()
        else:
            self._is_due = monotonic() - self._scanned_at >= self._wait_s

    def scan(self, elapsed_s: float) -> int:
        """
        Close the connections that are due; return how many.

        Args:
            elapsed_s: What is added to the age of connections.
        """
        self._scan += 1
        alive: set[int] = set()
        ages: dict[tuple[int, int, int], float] = {}
        closed = 0
        for number, name in enumerate(os.listdir(_DESCRIPTORS)):
            if number % _BATCH == _BATCH - 1:
                sleep(0)
            descriptor = int(name)
            client = _client_port(descriptor, self._port)
            if client is None:
                continue
            alive.add(client)
            if client in self._served:
                continue
            key = (descriptor, client, _inode(descriptor))
            age = self._ages.get(key, -elapsed_s) + elapsed_s
            if age >= self._limit_s and self._close(descriptor, client):
                closed += 1
            else:
                ages[key] = age
        self._ages = ages
        # A port that was noted during this scan may belong to a connection that is not in `alive`.
        for client, scan in tuple(self._served.items()):
            if scan < self._scan and client not in alive:
                del self._served[client]
        self._wait_s = max(SCAN_S, len(alive) * _SCAN_S_PER_CONNECTION)
        return closed

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._is_stopped:
                return
            now = monotonic()
            # While the event loop is blocked or the process stopped, connections do not age.
            elapsed_s = min(now - self._scanned_at, self._wait_s + _PULSE_S)
            self._scanned_at = now
            try:
                self.scan(elapsed_s)
            except Exception:  # the root of a thread; for example, no descriptor is left
                logger.exception("connection_scan_failed")

    def _close(self, descriptor: int, client: int) -> bool:
        # The descriptor may have become another connection's since it was read.
        with contextlib.suppress(OSError):
            copy = os.dup(descriptor)
            with socket.socket(fileno=copy) as connection:
                is_same = _client_port(copy, self._port) == client
                if is_same and client not in self._served:
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
        return False


def _inode(descriptor: int) -> int:
    """Return what tells a socket from the next one with its descriptor; 0: it is closed."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0


def _client_port(descriptor: int, port: int) -> int | None:
    """Return the client's port of a connection that was accepted on `port`; else None."""
    try:
        # The longer of both families' addresses; the address itself says which one it is.
        connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        return None
    try:
        own = connection.getsockname()
        if not isinstance(own, tuple) or own[1] != port:
            return None
        found: int = connection.getpeername()[1]
    except OSError:  # not a socket, not connected, or closed meanwhile
        return None
    else:
        return found
    finally:
        connection.detach()

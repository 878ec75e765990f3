"""
Sends the records of traces from a worker to the exporter process on the same host.

A thread sends them, as for the call log, so that the event loop never waits. The queue is bounded;
records that do not fit, or that the exporter does not accept, are dropped and counted.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from gateway.telemetry.traces.records import ENCODER, CallTraceRecord

QUEUE_LIMIT = 4096
"""Maximum number of records queued in a worker; about 4 MB."""
MAX_DATAGRAM_BYTES = 128 * 1024
_SEND_EVERY_S = 0.1
_SEND_TIMEOUT_S = 1.0
_BATCH = 32


def socket_path(data_dir: str | Path) -> Path:
    """Return the path of the socket on which the exporter receives."""
    return Path(data_dir) / "run" / "traces.sock"


def short_address(directory: int, path: Path) -> str:
    """
    Return a short address of a UNIX socket, whatever the length of its path.

    Args:
        directory: A descriptor of the path's directory.
        path: Path of the socket; may exceed the 107 bytes of an address.
    """
    return f"/proc/self/fd/{directory}/{path.name}"


class TraceSender:
    """
    Sends records to the exporter.

    Args:
        path: The exporter's socket.
        drop: Counts dropped records.
        limit: Maximum number of queued records.
    """

    def __init__(self, path: Path, drop: Callable[[int], object], limit: int = QUEUE_LIMIT) -> None:
        self._path = path
        self._drop = drop
        self._limit = limit
        self._records: deque[CallTraceRecord] = deque()
        self._closing = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_TIMEOUT_S)
        self._thread = threading.Thread(target=self._send_forever, name="traces", daemon=True)
        self._thread.start()

    def write(self, record: CallTraceRecord) -> None:
        """Queue one record without blocking."""
        if len(self._records) < self._limit:
            self._records.append(record)
        else:
            self._drop(1)

    def close(self, timeout_s: float = 2.0) -> None:
        """Send the queued records and stop the thread; give up after `timeout_s`."""
        self._closing.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._socket.close()

    def _send_forever(self) -> None:
        while not self._closing.wait(_SEND_EVERY_S):
            self._send_queued()
        self._send_queued()

    def _send_queued(self) -> None:
        records = self._records
        while records:
            batch = [records.popleft() for _ in range(min(len(records), _BATCH))]
            data = ENCODER.encode(batch)
            if len(data) > MAX_DATAGRAM_BYTES:
                for record in batch:
                    self._send(ENCODER.encode([record]), 1)
            else:
                self._send(data, len(batch))

    def _send(self, data: bytes, count: int) -> None:
        try:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.sendto(data, short_address(directory, self._path))
            finally:
                os.close(directory)
        except OSError:  # the exporter restarts, is too slow, or the record is too large
            self._drop(count)

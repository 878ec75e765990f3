"""
Exports traces over OTLP/HTTP: receives records from the workers, sends them to a collector.

Both queues and the time for retries of a batch are bounded: an unavailable collector costs only
spans, which are counted.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import msgspec

from gateway.telemetry.traces.otlp import request_body
from gateway.telemetry.traces.records import DECODER, CallTraceRecord
from gateway.telemetry.traces.sender import MAX_DATAGRAM_BYTES, short_address

QUEUE_LIMIT = 20_000
"""Maximum number of calls queued for the collector."""
BATCH = 256
_RECEIVE_BYTES = 4 * 1024 * 1024
_POLL_S = 0.5
_RESPONSE_BYTES = 64 * 1024
_RETRIED = frozenset({408, 429, 502, 503, 504})
_PAUSES_S = (0.5, 2.0, 5.0)
_LOG_EVERY_S = 60.0
logger = logging.getLogger(__name__)

Count = Callable[[str, int], object]
"""Counts calls by the outcome of their spans: `exported`, `dropped` or `failed`."""


class Receiver:
    """
    The socket on which workers send records.

    Args:
        path: Path of the socket; a socket left by a killed process is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._socket.settimeout(_POLL_S)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(short_address(directory, path))
        finally:
            os.close(directory)

    def receive(self) -> list[CallTraceRecord]:
        """Return the next records; none if half a second passes, or if they cannot be decoded."""
        try:
            return DECODER.decode(self._socket.recv(MAX_DATAGRAM_BYTES))
        except (TimeoutError, msgspec.MsgspecError):
            return []

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Exporter:
    """
    Sends records to a collector, in a thread.

    Args:
        endpoint: Base URL of the collector.
        headers: Headers of each request, such as a credential.
        resource: Attributes of the resource.
        count: Counts calls.
        limit: Maximum number of queued calls.
        pauses_s: Delays before the retries of a request that failed temporarily.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        resource: Mapping[str, str],
        count: Count,
        *,
        limit: int = QUEUE_LIMIT,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._client = httpx2.Client(
            headers={**headers, "content-type": "application/json"},
            timeout=10.0,
            follow_redirects=False,
        )
        self._resource = resource
        self._count = count
        self._limit = limit
        self._pauses_s = pauses_s
        self._waiting: deque[CallTraceRecord] = deque()
        self._some = threading.Event()
        self._closing = threading.Event()
        self._logged_at: float | None = None
        self._thread = threading.Thread(target=self._export_forever, name="otlp", daemon=True)
        self._thread.start()

    def add(self, records: list[CallTraceRecord]) -> None:
        """Queue records; those beyond the limit are dropped."""
        room = max(0, self._limit - len(self._waiting))
        self._waiting.extend(records[:room])
        if len(records) > room:
            self._count("dropped", len(records) - room)
        self._some.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Export the queued calls without further retries; give up after `timeout_s`."""
        self._closing.set()
        self._some.set()
        self._thread.join(timeout_s)
        if self._waiting:
            self._count("dropped", len(self._waiting))
        if not self._thread.is_alive():
            self._client.close()

    def _export_forever(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            while self._waiting:
                count = min(len(self._waiting), BATCH)
                batch = [self._waiting.popleft() for _ in range(count)]
                try:
                    self._export(batch)
                except Exception:  # the root of the thread: later batches are exported
                    self._count("failed", count)
                    logger.exception("traces_not_exported", extra={"calls": count})
            if self._closing.is_set():
                return

    def _export(self, batch: list[CallTraceRecord]) -> None:
        body = request_body(batch, self._resource)
        reason = ""
        for pause_s in (*self._pauses_s, None):
            reason, may_succeed = self._post(body)
            if not reason:
                self._count("exported", len(batch))
                return
            if not may_succeed or pause_s is None or self._closing.wait(pause_s):
                break
        self._count("failed", len(batch))
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            logger.warning("traces_not_exported", extra={"reason": reason, "calls": len(batch)})

    def _post(self, body: bytes) -> tuple[str, bool]:
        """Send a request; return its error, empty on success, and whether a retry may succeed."""
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                status = response.status_code
                # Read to its end, a small response leaves its connection for the next request.
                read = 0
                for piece in response.iter_raw():
                    read += len(piece)
                    if read > _RESPONSE_BYTES:
                        break
        except httpx2.HTTPError as error:
            return type(error).__name__, True
        return "" if status < 300 else f"status {status}", status in _RETRIED

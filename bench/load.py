"""
The load generator: raw HTTP/1.1 on asyncio protocols, so that it costs little beside what it loads.

Closed loop: each connection sends its next request when the response is complete. Times are taken
at the first content bytes of a stream and at its end.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

_CODE = re.compile(rb'"code" *: *"(\w+)"')


@dataclass
class Outcome:
    """The results of one run."""

    requests: int = 0
    failures: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ttft_s: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Connection(asyncio.Protocol):
    """A client connection with at most one request at a time; subclasses decide what follows."""

    def __init__(self) -> None:
        self.sent_at = 0.0
        self.status = 0
        self._first = True
        self._need = -1
        self._tail = b""
        self._refusal = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> None:
        """Send a request; the previous response must be complete."""
        assert self._transport is not None
        self._first, self._need, self._tail, self._refusal = True, -1, b"", b""
        self.sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    @property
    def refusal(self) -> str:
        """The status and the code of a response that is not 200; empty for one that is."""
        found = _CODE.search(self._refusal)
        code = f" {found[1].decode()}" if found else ""
        return "" if self.status == 200 else f"status {self.status}{code}"

    def end_of(self, error: Exception | None) -> str:
        """Return how a connection ended whose response is not complete."""
        kind = "reset" if isinstance(error, ConnectionResetError) else "closed"
        return f"connection {kind} {'before' if self._first else 'in'} a response"

    def first_bytes(self) -> None:
        """Note the first bytes of a body."""

    def completed(self) -> None:
        """Note the end of a response."""

    def data_received(self, data: bytes) -> None:
        if self._need < 0:
            data = self._tail + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._tail = data
                return
            self._head(data[:end].lower())
            self._tail = b""
            data = data[end + 4 :]
        self._body(data)

    def _head(self, head: bytes) -> None:
        self.status = int(head[9:12])
        at = head.find(b"content-length:")
        if at < 0:
            self._need = 0
        else:
            stop = head.find(b"\r\n", at)
            self._need = int(head[at + 15 : stop if stop > 0 else None])

    def _body(self, data: bytes) -> None:
        if self._first and data:
            self._first = False
            self.first_bytes()
        if self._need > 0:
            if self.status != 200:
                self._refusal += data
            self._need -= len(data)
            if self._need <= 0:
                self.completed()
            return
        self._tail = (self._tail + data)[-7:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            self.completed()


class _ClosedLoop(Connection):
    """Sends its next request when the response is complete."""

    def __init__(self, request: bytes, count: int, outcome: Outcome) -> None:
        super().__init__()
        self._request = request
        self._left = count
        self._outcome = outcome
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Send the next request, if one is left."""
        if self._left == 0:
            self.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self._left -= 1
        self.send(self._request)

    def first_bytes(self) -> None:
        self._outcome.ttft_s.append(time.perf_counter() - self.sent_at)

    def completed(self) -> None:
        self._outcome.requests += 1
        self._outcome.failures += self.status != 200
        self._outcome.statuses[self.status] += 1
        self.start()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._outcome.failures += self._left + 1
            self.done.set_result(None)


async def run(
    port: int, request: bytes, *, connections: int, each: int, stagger_s: float = 0.0
) -> Outcome:
    """
    Send `each` requests on every connection and return what was seen.

    Args:
        stagger_s: The connections' starts are spread over this time.
    """
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    made = [
        await loop.create_connection(lambda: _ClosedLoop(request, each, outcome), "127.0.0.1", port)
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for _, protocol in made:
        protocol.start()
        if stagger_s:
            await asyncio.sleep(stagger_s / connections)
    await asyncio.gather(*(protocol.done for _, protocol in made))
    outcome.seconds = time.perf_counter() - started
    return outcome

"""
The loads of the scenarios, each for a given time: closed loop, churn, and streams at a pace.

All are raw HTTP/1.1 on asyncio protocols, see `bench.load`. Times are those of this process: it
shares its core with the mock upstream, for all systems alike, and `direct` shows what that adds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness.requests import Payload
from bench.load import Connection

END_S = 20.0
"""How long nothing may come, after a load ends, before what is missing counts as failed."""
MOST_S = 120.0
"""How long the last responses may take in all."""


@dataclass
class Seen:
    """What a load has seen."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Responses whose status is not 200, broken connections, and what never ended, by kind."""
    events: int = 0
    seconds: float = 0.0
    ttft_s: list[float] = field(default_factory=list)
    """From sending a request to the first bytes of the response's body."""
    gaps_s: list[float] = field(default_factory=list)
    """Between two events of a stream; events that arrive in one read have none between them."""
    whole_s: list[float] = field(default_factory=list)
    """From when a request was due to the end of its response."""

    @property
    def failures(self) -> int:
        """How many requests failed."""
        return self.failed.total()


def not_connected(error: OSError) -> str:
    """Return the kind of failure of a connection that could not be opened."""
    return f"not connected: {type(error).__name__}"


class _Repeating(Connection):
    """Sends the next request when a response is complete, until the time is over."""

    def __init__(self, payload: Payload, seen: Seen) -> None:
        super().__init__()
        self._payload = payload
        self._until = 0.0
        self._seen = seen
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, until: float) -> None:
        """Send the first request; no other follows after that time."""
        self._until = until
        self.send(self._payload.next())

    def first_bytes(self) -> None:
        self._seen.ttft_s.append(time.perf_counter() - self.sent_at)

    def completed(self) -> None:
        now = time.perf_counter()
        self._seen.requests += 1
        if self.status != 200:
            self._seen.failed[self.refusal] += 1
        self._seen.whole_s.append(now - self.sent_at)
        if now < self._until:
            self.follow()
        else:
            self._end()
            self.close()

    def follow(self) -> None:
        """Send the next request."""
        self.send(self._payload.next())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._seen.failed[self.end_of(exc)] += 1
            self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class _Churning(_Repeating):
    """Sends every request on a connection of its own."""

    def __init__(self, payload: Payload, seen: Seen, again: Callable[[], None]) -> None:
        super().__init__(payload, seen)
        self._again = again

    def follow(self) -> None:
        self._end()
        self.close()
        self._again()


NOTHING = "nothing received in time"


async def _ended(futures: list[asyncio.Future[None]], seen: Seen) -> None:
    """Wait for the last responses; those that do not come are failures."""
    pending = set(futures)
    began = came_at = time.perf_counter()
    while pending and time.perf_counter() < min(began + MOST_S, came_at + END_S):
        # A slow machine has more time, for as long as responses come.
        done, pending = await asyncio.wait(pending, timeout=END_S / 20)
        came_at = time.perf_counter() if done else came_at
    if pending:
        seen.failed[NOTHING] += len(pending)
    for each in pending:
        each.cancel()  # a connection that is closed after this is not counted twice


async def closed(port: int, payload: Payload, connections: int, seconds: float) -> Seen:
    """Keep one request running on each connection."""
    loop, seen = asyncio.get_running_loop(), Seen()
    made = [
        (await loop.create_connection(lambda: _Repeating(payload, seen), "127.0.0.1", port))
        for _ in range(connections)
    ]
    began = time.perf_counter()
    for _, each in made:
        each.begin(began + seconds)
    await _ended([each.done for _, each in made], seen)
    seen.seconds = time.perf_counter() - began
    for transport, _ in made:
        transport.abort()
    return seen


async def churn(port: int, payload: Payload, connections: int, seconds: float) -> Seen:
    """Keep some requests running, each on a new connection that the client closes after it."""
    loop, seen = asyncio.get_running_loop(), Seen()
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        try:
            transport, each = await loop.create_connection(
                lambda: _Churning(payload, seen, again), "127.0.0.1", port
            )
        except OSError as error:
            seen.failed[not_connected(error)] += 1
            return
        each.begin(began + seconds)
        await asyncio.wait([each.done], timeout=END_S)
        if not each.done.done():
            seen.failed[NOTHING] += 1
            transport.abort()

    def again() -> None:
        task = loop.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)

    for _ in range(connections):
        again()
    while running:
        await asyncio.wait(set(running))
    seen.seconds = time.perf_counter() - began
    return seen


class _Stream(Connection):
    """One stream, whose events are counted and timed while its load is measured."""

    def __init__(self, load: PacedLoad) -> None:
        super().__init__()
        self._load = load
        self._event_at = 0.0
        self._half = False
        self._over = False
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def first_bytes(self) -> None:
        self._load.seen.ttft_s.append(time.perf_counter() - self.sent_at)
        if not self.began.done():
            self.began.set_result(None)

    def data_received(self, data: bytes) -> None:
        # An event ends with an empty line, which may be cut between two reads.
        events = data.count(b"\n\n") + (self._half and data[:1] == b"\n")
        self._half = data[-1:] == b"\n" and data[-2:] != b"\n\n"
        if events:
            now = time.perf_counter()
            if self._load.measuring:
                self._load.seen.events += events
                if self._event_at:
                    self._load.seen.gaps_s.append(now - self._event_at)
            self._event_at = now
        super().data_received(data)

    def completed(self) -> None:
        self._end(self.refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(self.end_of(exc))

    def _end(self, failure: str) -> None:
        if not self._over:
            self._over = True
            self._load.ended(self, failure)


class PacedLoad:
    """
    Streams that run beside each other: opened one after the other, held, and closed at once.

    Args:
        streams: Their number.
        open_s: The time over which they are opened, evenly.
    """

    def __init__(self, port: int, payload: Payload, streams: int, open_s: float) -> None:
        self._port = port
        self._payload = payload
        self._streams = streams
        self._open_s = open_s
        self._made: list[tuple[asyncio.BaseTransport, _Stream]] = []
        self._closing = False
        self.seen = Seen()
        self.measuring = False

    async def open(self) -> None:
        """Open all, and wait until each has begun."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        for number in range(self._streams):
            due = began + self._open_s * number / self._streams
            if (rest := due - time.perf_counter()) > 0:
                await asyncio.sleep(rest)
            self.seen.requests += 1
            try:
                made = await loop.create_connection(lambda: _Stream(self), "127.0.0.1", self._port)
            except OSError as error:
                self.seen.failed[not_connected(error)] += 1
                continue
            self._made.append(made)
            made[1].send(self._payload.next())
        await _ended([each.began for _, each in self._made], self.seen)

    async def measure(self, seconds: float) -> None:
        """Count and time the events of that long."""
        self.measuring = True
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        self.measuring = False
        self.seen.seconds = time.perf_counter() - began

    def close(self) -> None:
        """Close all at once, as clients do that leave."""
        self._closing = True
        for transport, _ in self._made:
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    def ended(self, stream: _Stream, failure: str) -> None:
        """Note a stream that has ended by itself; what is measured must outlast the load."""
        if self._closing or stream.began.cancelled():
            return
        if failure:
            self.seen.failed[failure] += 1
        if not stream.began.done():
            stream.began.set_result(None)


async def rest() -> None:
    """Let the event loop run for a moment."""
    await asyncio.sleep(0.05)

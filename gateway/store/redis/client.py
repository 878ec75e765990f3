"""
The Redis client of the hot path: all commands of a worker pipelined over one connection.

How it works
    `command` packs its arguments and returns a future. All commands of one loop tick are sent in
    one write, as one batch; replies arrive in the same order and resolve the futures. A command
    allocates only its future and its bytes.

Rules
    1. Replies are matched by order. A batch stays queued until its replies have arrived, even if
       its deadline has passed or its futures were cancelled; late replies are dropped. See
       `inflight`.
    2. One timer sweeps the batches: the deadline is `command_timeout_s` plus at most a quarter.
    3. A command fails with `RedisUnavailable` (no reply) or `ReplyError` (an error reply). Its
       wait is always bounded.
    4. Without a connection, commands wait for one up to their deadline. The client reconnects
       forever, with exponential backoff and jitter.
    5. After `failures_to_open` consecutive failures (a sweep that found commands without replies,
       a failed connect, a lost connection) the breaker opens: commands fail at once. After
       `cooldown_s` the client sends a PING; a reply in time, or a new connection, closes the
       breaker.
    6. A connection whose oldest reply is overdue by `stall_s` is replaced.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.core.circuit_breaker import CircuitBreaker
from gateway.store.redis.address import RedisAddress
from gateway.store.redis.connection import (
    Argument,
    Command,
    OtherKindError,
    RedisConnection,
    RedisRefusedError,
    Replies,
    Reply,
    ReplyError,
    open_connection,
    pack_one,
)
from gateway.store.redis.inflight import Batch, InflightBatches, Reason, RedisUnavailable
from gateway.store.redis.scripts import LuaScript

__all__ = [
    "PipelinedRedis",
    "Reason",
    "RedisLimits",
    "RedisState",
    "RedisUnavailable",
    "Reply",
    "ReplyError",
]

logger = logging.getLogger(__name__)

_SWEEPS_PER_TIMEOUT = 4
_ONE_READ_S = 0.001
"""Long enough for the loop to read its sockets once before the timer fires."""


class RedisState(enum.Enum):
    """Whether commands are accepted. The value is the label in metrics and logs."""

    CONNECTING = "connecting"
    """No connection; commands wait for one up to their deadline."""
    READY = "ready"
    OPEN = "open"
    """The breaker is open: commands fail at once."""
    CLOSED = "closed"
    """After `aclose`."""


class RedisLimits(NamedTuple):
    command_timeout_s: float = 0.05
    max_pending: int = 20_000
    """Commands without a reply; one more fails at once."""
    max_unsent_bytes: int = 16 * 1024 * 1024
    """Bytes the kernel has not accepted yet; beyond it a batch fails at once."""
    failures_to_open: int = 5
    cooldown_s: float = 0.5
    stall_s: float = 2.0
    backoff_first_s: float = 0.02
    backoff_longest_s: float = 1.0


class PipelinedRedis:
    """
    One multiplexed connection to Redis, for the event loop it is made in.

    Args:
        target: Where Redis is.
        limits: Deadline, bounds and breaker.
        scripts: Loaded at every connect.
        observe: Called once per batch and network read with the round trip in seconds and the
            number of commands it applies to.
        on_state: Called at every change of `state`.
        on_other_kind: Called if the server is in cluster mode, instead of connecting again.
        draw: Uniform in [0, 1), for the backoff's jitter.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        target: RedisAddress,
        limits: RedisLimits = RedisLimits(),  # noqa: B008 - frozen
        *,
        scripts: Sequence[LuaScript] = (),
        observe: Callable[[float, int], None] | None = None,
        on_state: Callable[[RedisState], None] | None = None,
        on_other_kind: Callable[[], None] | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._limits = limits
        self._loads: list[Command] = [("SCRIPT", "LOAD", script.source) for script in scripts]
        self._on_state = on_state
        self._on_other_kind = on_other_kind
        self._draw = draw
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._state = RedisState.CONNECTING
        self._capacity = limits.max_pending
        self._link: RedisConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempted = asyncio.Event()
        self._futures: list[asyncio.Future[Reply]] = []
        self._packed: list[bytes] = []
        self._gathering: list[Callable[[], None]] = []
        self._batches = InflightBatches(observe, self._refused)
        self._breaker = CircuitBreaker(
            failures_to_open=limits.failures_to_open, cooldown_s=limits.cooldown_s
        )
        self._sweep_every_s = limits.command_timeout_s / _SWEEPS_PER_TIMEOUT
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._probe_timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> RedisState:
        """The current state."""
        return self._state

    @property
    def pending(self) -> int:
        """Commands without a reply, including late ones."""
        return self._batches.pending

    @property
    def failed_total(self) -> int:
        """Commands that failed without a reply, including those never sent."""
        return self._batches.failed_total

    async def start(self) -> None:
        """Start connecting; return when the first attempt has ended. The client keeps trying."""
        self._task = self._loop.create_task(self._stay_connected(), name="redis-bus")
        await self._attempted.wait()

    async def aclose(self) -> None:
        """Fail pending commands and close the connection. Idempotent."""
        self._enter(RedisState.CLOSED)
        self._flush()
        self._batches.fail_unsent("closed")
        self._batches.fail_sent("closed")
        self._attempted.set()
        for timer in (self._sweep_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def command(self, *args: Argument) -> asyncio.Future[Reply]:
        """
        Send one command; the future returned is its reply.

        It fails with `RedisUnavailable` (no reply in time, or not sent) or `ReplyError`. Cancelling
        it drops the reply; the command still runs.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        batches = self._batches
        if batches.pending >= self._capacity:
            future.set_exception(RedisUnavailable(self._refusal()))
            batches.count_refused()
            return future
        packed = pack_one(args)
        if not (self._packed or self._gathering):
            self._loop.call_soon(self._flush)
        self._packed.append(packed)
        self._futures.append(future)
        batches.count_gathered()
        return future

    def before_flush(self, gather: Callable[[], None]) -> None:
        """Call `gather` when the commands of this tick are sent; it adds its own to them."""
        if not (self._packed or self._gathering):
            self._loop.call_soon(self._flush)
        self._gathering.append(gather)

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        """
        Run a script by its digest; load it first if Redis does not have it.

        Raises:
            RedisUnavailable: No reply in time, or not sent.
            ReplyError: Redis rejected the command, or the script failed.
        """
        try:
            return await self.command(b"EVALSHA", script.sha, len(keys), *keys, *args)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        await self.command(b"SCRIPT", b"LOAD", script.source)
        return await self.command(b"EVALSHA", script.sha, len(keys), *keys, *args)

    # Between commands and the wire.

    def _flush(self) -> None:
        """Send the commands gathered in this tick."""
        for gather in self._gathering:
            gather()
        self._gathering.clear()
        if not self._packed:
            return
        self._futures.reverse()
        batch = Batch(self._futures, b"".join(self._packed), self._clock())
        self._futures = []
        self._packed.clear()
        # A connection may be gone before its end is noticed: the batch waits for the next one.
        if self._link is None or not self._send(self._link, batch):
            self._batches.queue(batch)
        if self._sweep_timer is None and self._state is not RedisState.CLOSED:
            self._arm_sweep()

    def _send(self, link: RedisConnection, batch: Batch) -> bool:
        """Write a batch; return False, with nothing done, if the connection is gone."""
        if link.unsent_bytes() > self._limits.max_unsent_bytes:
            self._batches.refuse(batch, "full")
            return True
        if not link.write(batch.packed):
            link.abort()
            return False
        self._batches.sent(batch)
        return True

    def _refusal(self) -> Reason:
        if self._state is RedisState.CLOSED:
            return "closed"
        return "open" if self._state is RedisState.OPEN else "full"

    def _take(self, replies: Replies) -> None:
        in_time, in_step = self._batches.resolve(replies, self._clock())
        if in_time:
            self._breaker.record_success()
        if not in_step and self._link is not None:
            self._link.abort()

    def _refused(self, error: ReplyError) -> None:
        if error.code == "READONLY" and self._link is not None:
            # The primary became a replica: reconnect, the address may resolve to another server.
            self._loop.call_soon(self._link.abort)

    # Deadlines and the breaker.

    def _arm_sweep(self) -> None:
        self._sweep_due = self._clock() + self._sweep_every_s
        self._sweep_timer = self._loop.call_later(self._sweep_every_s, self._sweep)

    def _sweep(self) -> None:
        if self._clock() - self._sweep_due > self._sweep_every_s:
            # The loop itself was blocked: replies may be unread. Read once, then expire.
            self._sweep_timer = self._loop.call_later(_ONE_READ_S, self._expire)
        else:
            self._expire()

    def _expire(self) -> None:
        """Fail batches past their deadline; sweep again while any are in flight."""
        self._sweep_timer = None
        now = self._clock()
        if self._batches.expire(now - self._limits.command_timeout_s):
            self._count_failure()
        if self._link is not None and self._batches.late_since(now - self._limits.stall_s):
            self._link.abort()
        if self._batches:
            self._arm_sweep()

    def _count_failure(self) -> None:
        if self._breaker.record_failure(self._clock()) and self._state is not RedisState.CLOSED:
            self._enter(RedisState.OPEN)
            self._batches.fail_unsent("open")
            self._arm_probe()

    def _arm_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self._probe_timer = self._loop.call_later(self._limits.cooldown_s, self._probe)

    def _probe(self) -> None:
        """Send a PING on the current connection to find out whether the server responds again."""
        if self._link is None or self._state is not RedisState.OPEN:
            return  # a new connection is the probe
        self._breaker.try_probe(self._clock())
        probe: asyncio.Future[Reply] = self._loop.create_future()
        probe.add_done_callback(self._probed)
        self._packed.append(pack_one((b"PING",)))
        self._futures.append(probe)
        self._batches.count_gathered()
        self._flush()

    def _probed(self, probe: asyncio.Future[Reply]) -> None:
        if self._state is not RedisState.OPEN:
            return
        if probe.exception() is None:
            self._breaker.close()
            self._enter(RedisState.READY)
        else:
            self._breaker.record_failure(self._clock())
            self._arm_probe()

    def _enter(self, state: RedisState) -> None:
        if state is self._state or self._state is RedisState.CLOSED:
            return
        level = logging.WARNING if state is RedisState.OPEN else logging.INFO
        fields = {"state": state.value, "redis": self._target.label}
        logger.log(level, "redis_state_changed", extra=fields)
        self._state = state
        usable = state in (RedisState.READY, RedisState.CONNECTING)
        self._capacity = self._limits.max_pending if usable else 0
        if self._on_state is not None:
            self._on_state(state)

    # The connection.

    async def _stay_connected(self) -> None:
        """Connect and reconnect until cancelled, or the server is of another kind."""
        attempt = 0
        while True:
            since = self._clock()
            try:
                link = await open_connection(self._target, self._loads)
            except (OSError, ReplyError, ValueError) as error:
                self._attempted.set()
                if isinstance(error, OtherKindError) and self._on_other_kind is not None:
                    self._on_other_kind()
                    return
                self._log_failure(error)
                self._count_failure()
            else:
                await self._serve(link)
            lasted = self._clock() - since > self._limits.backoff_longest_s
            attempt = 0 if lasted else attempt + 1
            await asyncio.sleep(self._backoff_s(attempt))

    async def _serve(self, link: RedisConnection) -> None:
        """Use a connection until it is closed."""
        self._link = link
        self._breaker.close()
        link.hand_over(self._take)
        while (batch := self._batches.next_unsent()) is not None:
            if not self._send(link, batch):
                self._batches.put_back(batch)
                break
        self._enter(RedisState.READY)
        self._attempted.set()
        try:
            await link.closed
        finally:
            link.abort()
            self._link = None
            self._batches.fail_sent("lost")
        if self._state is RedisState.READY:
            self._enter(RedisState.CONNECTING)
        self._count_failure()

    def _backoff_s(self, attempt: int) -> float:
        """Return the delay before a reconnect: 0 after a connection that lasted, then doubling."""
        if attempt == 0:
            return 0.0
        doubled = self._limits.backoff_first_s * 2.0 ** min(attempt - 1, 16)
        return min(self._limits.backoff_longest_s, doubled) * (0.5 + self._draw() / 2)

    def _log_failure(self, error: Exception) -> None:
        # An error reply may repeat the arguments of AUTH, which are secret: log its code only.
        reason = error.code if isinstance(error, ReplyError) else type(error).__name__
        if isinstance(error, RedisRefusedError):
            reason = str(error)
        level = logging.DEBUG if self._state is RedisState.OPEN else logging.WARNING
        fields = {"redis": self._target.label, "reason": reason}
        logger.log(level, "redis_connect_failed", extra=fields)

"""
The Redis client of the hot path for a cluster: one pipelined connection to each master.

Rules
    1. A command goes to the master of its key's slot. Every key of a script has one hash tag and is
       declared, so the server checks all of them before the script begins.
    2. MOVED, ASK, TRYAGAIN and CLUSTERDOWN mean that a command did not run. MOVED and ASK are
       followed, at most MOST_REDIRECTS times and within the command's deadline. The others are the
       command's reply: they are transient, see `batches.TRANSIENT`, and concern one shard.
    3. Each master has a breaker of its own: one that is lost delays no command to another.
    4. Commands wait for the first topology up to their deadline.
    5. When a connection was made, as to a replica that has become a master, or a silent master
       responds again, `on_state` is called with READY: a failover may have lost the last writes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Final

from gateway.store.redis.address import RedisAddress
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState, RedisUnavailable
from gateway.store.redis.cluster.slots import SLOTS, Node, Topology, read_redirect, slot_of
from gateway.store.redis.cluster.topology import TopologyWatch
from gateway.store.redis.connection import Argument, Reply, ReplyError, pack_one
from gateway.store.redis.inflight import Reason
from gateway.store.redis.scripts import LuaScript

MOST_REDIRECTS: Final = 4
_SUSPECT: Final = frozenset(("CLUSTERDOWN", "MOVED", "READONLY", "MASTERDOWN"))
"""Codes of error replies after which the topology is read again."""
_WORST: Final = (RedisState.OPEN, RedisState.CONNECTING)


class _Sent:
    """A command on its way. `until`: when it must not be sent again."""

    __slots__ = ("args", "future", "redirects", "slot", "until")

    def __init__(
        self, args: tuple[Argument, ...], future: asyncio.Future[Reply], until: float
    ) -> None:
        self.args = args
        self.slot = slot_of(args)
        self.future = future
        self.until = until
        self.redirects = 0


class ClusterRedis:
    """
    Implements `bus.RedisBus` for a cluster, for the event loop it is made in.

    Args:
        target: Some of its servers; the others are learned from them.
        limits: Deadline, bounds and breaker of each connection.
        scripts: Loaded at every connect, on every master.
        observe: See `PipelinedRedis`.
        on_state: Called at every change of `state`, and with READY when a part is back.
        on_other_kind: Called if no master is connected and a server is not in cluster mode.
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
        self._link_to = partial(
            PipelinedRedis, limits=limits, scripts=scripts, observe=observe, draw=draw, clock=clock
        )
        self._on_state = on_state
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._links: dict[Node, PipelinedRedis] = {}
        self._retired: list[PipelinedRedis] = []
        """Connections to servers that are no master, until their replies have arrived."""
        self._owners: list[Node | None] = [None] * SLOTS
        self._topology: Topology | None = None
        self._watch = TopologyWatch(
            *(target, self._ready_links, self._learn, self._responded),
            other_kind=on_other_kind,
            draw=draw,
            clock=clock,
        )
        self._silent: set[Node] = set()
        self._waiting: list[_Sent] = []
        self._gathering: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = 0
        self._state = RedisState.CONNECTING
        self.on_topology: list[Callable[[], None]] = []
        """Called after the masters have changed."""

    @property
    def state(self) -> RedisState:
        """The worst state of the masters; CONNECTING also while a slot has none."""
        return self._state

    @property
    def pending(self) -> int:
        """Commands without a reply."""
        return len(self._waiting) + sum(link.pending for link in self._links.values())

    @property
    def failed_total(self) -> int:
        """Commands that failed without a reply, including those never sent."""
        links = (*self._links.values(), *self._retired)
        return self._failed + sum(link.failed_total for link in links)

    @property
    def masters(self) -> tuple[Node, ...]:
        """The masters that have slots, as far as known."""
        return () if self._topology is None else self._topology.masters

    def owner_of(self, slot: int) -> Node | None:
        """Return the master of a slot, as far as known."""
        return self._owners[slot]

    async def start(self) -> None:
        """Learn the topology and connect; return when the first attempts have ended."""
        await self._watch.start()
        links = list(self._links.values())
        while links and any(link.state is RedisState.CONNECTING for link in links):
            if not self._tasks:
                break
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Fail pending commands and close all connections. Idempotent."""
        self._state = RedisState.CLOSED
        await self._watch.aclose()
        self._fail_waiting("closed")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*[link.aclose() for link in self._links.values()])

    def command(self, *args: Argument) -> asyncio.Future[Reply]:
        """Send one command to the master of its key, see `bus.RedisBus`."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        sent = _Sent(args, future, self._clock() + self._limits.command_timeout_s)
        if self._state is RedisState.CLOSED:
            self._fail(sent, "closed")
        elif self._topology is not None:
            self._send(sent, self._node_for(sent))
        elif len(self._waiting) >= self._limits.max_pending:
            self._fail(sent, "full")
        else:
            pack_one(args)  # raises now what it would raise then
            self._waiting.append(sent)
            self._loop.call_later(self._limits.command_timeout_s, self._expire)
        return future

    def before_flush(self, gather: Callable[[], None]) -> None:
        """Call `gather` at the end of this loop turn; its commands join those of their masters."""
        if not self._gathering:
            self._loop.call_soon(self._gather)
        self._gathering.append(gather)

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        """
        Run a script by its digest; load it first if the master does not have it.

        Raises:
            RedisUnavailable: No reply in time, or not sent.
            ReplyError: Redis rejected the command, or the script failed.
        """
        try:
            return await self.command(b"EVALSHA", script.sha, len(keys), *keys, *args)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        # EVAL loads it where it runs, which may be another master by now.
        return await self.command(b"EVAL", script.source, len(keys), *keys, *args)

    # Commands.

    def _gather(self) -> None:
        gathering, self._gathering = self._gathering, []
        for gather in gathering:
            gather()

    def _node_for(self, sent: _Sent) -> Node | None:
        if sent.slot is not None:
            return self._owners[sent.slot]
        ready = self._ready_links()
        return next(iter(ready or self._links), None)

    def _send(self, sent: _Sent, node: Node | None, *, asks: bool = False) -> None:
        if node is None:
            self._watch.suspect()
            self._fail(sent, "open")
            return
        link = self._links.get(node) or self._connect(node)
        if asks:  # in one write with the command, so that no other is between them
            link.command(b"ASKING").add_done_callback(_retrieve)
        link.command(*sent.args).add_done_callback(partial(self._replied, sent, node))

    def _replied(self, sent: _Sent, node: Node, reply: asyncio.Future[Reply]) -> None:
        error = reply.exception()
        if sent.future.done():
            return
        if error is None:
            sent.future.set_result(reply.result())
        elif isinstance(error, ReplyError) and self._follow(sent, node, error):
            pass
        else:
            if not isinstance(error, ReplyError) or error.code in _SUSPECT:
                self._watch.suspect()
            sent.future.set_exception(error)

    def _follow(self, sent: _Sent, node: Node, error: ReplyError) -> bool:
        """Send a redirected command to the other server; return False if it is not redirected."""
        redirect = read_redirect(error, node)
        if redirect is None or sent.redirects >= MOST_REDIRECTS or self._clock() > sent.until:
            return False
        sent.redirects += 1
        if not redirect.asks and sent.slot is not None:
            self._owners[sent.slot] = redirect.node
            self._watch.suspect()
        self._send(sent, redirect.node, asks=redirect.asks)
        return True

    def _fail(self, sent: _Sent, reason: Reason) -> None:
        self._failed += 1
        if not sent.future.done():
            sent.future.set_exception(RedisUnavailable(reason))

    def _expire(self) -> None:
        now = self._clock()
        waiting, self._waiting = self._waiting, []
        for sent in waiting:
            if sent.until <= now:
                self._fail(sent, "timeout")
            else:
                self._waiting.append(sent)

    def _fail_waiting(self, reason: Reason) -> None:
        waiting, self._waiting = self._waiting, []
        for sent in waiting:
            self._fail(sent, reason)

    # Connections.

    def _ready_links(self) -> dict[Node, PipelinedRedis]:
        return {node: link for node, link in self._links.items() if link.state is RedisState.READY}

    def _connect(self, node: Node) -> PipelinedRedis:
        link = self._link_to(
            self._target.node(*node), on_state=lambda state: self._link_changed(node, state)
        )
        self._links[node] = link
        self._run(link.start())
        return link

    def _learn(self, topology: Topology) -> None:
        """Use a topology: connect to new masters, disconnect from those that are none."""
        before = set(self.masters)
        self._topology = topology
        self._owners = list(topology.owners)
        for node in topology.masters:
            if node not in self._links:
                self._connect(node)
        for node in set(self._links) - set(topology.masters):
            link = self._links.pop(node)
            self._retired.append(link)
            self._run(self._retire(link))
        waiting, self._waiting = self._waiting, []
        for sent in waiting:
            if not sent.future.done():
                self._send(sent, self._node_for(sent))
        if before != set(topology.masters):
            for changed in self.on_topology:
                changed()
        self._update_state()

    async def _retire(self, link: PipelinedRedis) -> None:
        """Close a connection once its commands have their replies, or their deadlines passed."""
        try:
            await asyncio.sleep(2 * self._limits.command_timeout_s)
        finally:
            await link.aclose()
            self._retired.remove(link)
            self._failed += link.failed_total

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The state.

    def _link_changed(self, node: Node, state: RedisState) -> None:
        if node not in self._links or self._state is RedisState.CLOSED:
            return
        if state is not RedisState.READY:
            self._watch.suspect()
        self._update_state()
        if state is RedisState.READY:
            self._returned()

    def _responded(self, node: Node, responds: bool) -> None:
        """Note that a master does not respond, so that its return is noticed without a call."""
        if not responds:
            self._silent.add(node)
        elif node in self._silent:
            self._silent.discard(node)
            self._returned()

    def _returned(self) -> None:
        if self._on_state is not None and self._state is not RedisState.CLOSED:
            self._on_state(RedisState.READY)

    def _update_state(self) -> None:
        if self._state is RedisState.CLOSED:
            return
        states = {self._links[node].state for node in self.masters if node in self._links}
        state = next((worst for worst in _WORST if worst in states), RedisState.READY)
        if self._topology is None or None in self._owners:
            state = RedisState.CONNECTING if state is RedisState.READY else state
        if state is not self._state:
            self._state = state
            if self._on_state is not None and state is not RedisState.READY:
                self._on_state(state)


def _retrieve(reply: asyncio.Future[Reply]) -> None:
    """Retrieve an outcome, so that asyncio does not report a failure as unhandled."""
    if not reply.cancelled():
        reply.exception()

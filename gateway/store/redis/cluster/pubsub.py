"""
A subscription to one channel on every master of a cluster.

A message is published on one master, and only a subscription there proves by its PINGs that it was
received; the cluster also forwards it to the others, without a proof. So the listener is subscribed
while every known master is, learns the least that all of them prove, and gets a message from
several of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Protocol

from gateway.store.redis.address import RedisAddress
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.slots import Node
from gateway.store.redis.pubsub import Listener, Subscription


class Subscribed(Protocol):
    """A subscription to one channel, of one server or a cluster."""

    async def start(self) -> None:
        """Start; return when the channel is subscribed or the first attempt has failed."""

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""


class _Master:
    """The listener of one master's subscription."""

    def __init__(self, changed: Callable[[], None], received: Callable[[bytes], None]) -> None:
        self.changed = changed
        self.received = received
        self.since: float | None = None
        """Messages from then on are received; None: not subscribed."""
        self.proven_since = 0.0

    def subscribed(self, since: float) -> None:
        self.since = self.proven_since = since
        self.changed()

    def proven(self, since: float) -> None:
        self.proven_since = since
        self.changed()

    def lost(self) -> None:
        self.since = None
        self.changed()


class ClusterSubscription:
    """
    Keeps one channel subscribed on all masters; the listener must tolerate repeated messages.

    Args:
        redis: Knows the masters; started before.
        target: The cluster.
        channel: The channel's name.
        listener: Receives the messages.
        clock: Monotonic seconds; the listener's clock too.
    """

    def __init__(
        self,
        redis: ClusterRedis,
        target: RedisAddress,
        channel: str,
        listener: Listener,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._listener = listener
        self._subscription_at = partial(self._subscribe, target, channel, clock)
        self._parts: dict[Node, tuple[Subscription, _Master]] = {}
        self._is_complete = False
        self._proven = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribe on the known masters; return when all attempts have ended."""
        self._redis.on_topology.append(self._follow)
        self._follow()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        if self._follow in self._redis.on_topology:
            self._redis.on_topology.remove(self._follow)
        for node in list(self._parts):
            self._close(node)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _follow(self) -> None:
        """Subscribe on new masters, and no longer on those that are none."""
        masters = self._redis.masters
        for node in masters:
            if node not in self._parts:
                subscription, _ = self._parts[node] = self._subscription_at(node)
                self._run(subscription.start())
        for node in set(self._parts) - set(masters):
            self._close(node)
        self._update()

    def _close(self, node: Node) -> None:
        subscription, master = self._parts.pop(node)
        master.changed = _ignore
        self._run(subscription.aclose())

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _subscribe(
        self, target: RedisAddress, channel: str, clock: Callable[[], float], node: Node
    ) -> tuple[Subscription, _Master]:
        master = _Master(self._update, self._listener.received)
        return Subscription(target.node(*node), channel, master, clock=clock), master

    def _update(self) -> None:
        """Tell the listener what all masters together prove."""
        since = [master.since for _, master in self._parts.values()]
        known = [each for each in since if each is not None]
        if not known or len(known) < len(since):
            if self._is_complete:
                self._is_complete = False
                self._listener.lost()
            return
        if not self._is_complete:
            self._is_complete = True
            self._proven = max(known)
            self._listener.subscribed(self._proven)
            return
        proven = min(master.proven_since for _, master in self._parts.values())
        if proven > self._proven:
            self._proven = proven
            self._listener.proven(proven)


def _ignore() -> None:
    """Do nothing: the server is no master."""

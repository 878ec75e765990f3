"""
Keeps the topology of a Redis Cluster current.

It is read from several masters every few seconds, and at once when a command was redirected, failed
or a connection was lost. The one with the highest epoch counts: a master that is separated from the
others does not know of the failover that has replaced it. While a master does not respond, its
replicas and the configured servers are asked as well.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from gateway.settings.urls import host_and_port
from gateway.store.redis.address import RedisAddress
from gateway.store.redis.client import PipelinedRedis, RedisUnavailable
from gateway.store.redis.cluster.slots import Node, Topology, read_topology
from gateway.store.redis.connection import Command, OtherKindError, ReplyError, open_connection

EVERY_S: Final = 5.0
"""How often the topology is read without a reason."""
_SOON_S: Final = 0.1
"""The least time between two reads, which doubles while nothing has changed."""
_SELDOM_S: Final = 1.0
_MOST_ASKED: Final = 5
_ASK_S: Final = 1.0
_SLOTS: Final[Command] = ("CLUSTER", "SLOTS")
_INFO: Final[Command] = ("CLUSTER", "INFO")
_T = TypeVar("_T")
logger = logging.getLogger(__name__)


class TopologyWatch:
    """
    Reads the topology again and again.

    Args:
        target: The configured servers.
        links: Returns the connections to masters that respond.
        learn: Called with each topology.
        responded: Called with a connected master and whether it responded.
        other_kind: Called if no master is connected and a server is not in cluster mode.
        draw: Uniform in [0, 1).
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        target: RedisAddress,
        links: Callable[[], Mapping[Node, PipelinedRedis]],
        learn: Callable[[Topology], None],
        responded: Callable[[Node, bool], None],
        *,
        other_kind: Callable[[], None] | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._links = links
        self._learn = learn
        self._responded = responded
        self._other_kind = other_kind
        self._draw = draw
        self._clock = clock
        self._seeds = [Node(*seed) for seed in target.seeds]
        self._known: Topology | None = None
        self._suspected = asyncio.Event()
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start reading; return after the first attempt."""
        self._task = asyncio.create_task(self._watch_forever(), name="redis-topology")
        await self._attempted.wait()

    async def aclose(self) -> None:
        """Stop reading. Idempotent."""
        self._attempted.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def suspect(self) -> None:
        """Read the topology soon: it may have changed."""
        self._suspected.set()

    async def _watch_forever(self) -> None:
        pause_s = _SOON_S
        while True:
            suspected = self._suspected.is_set()
            self._suspected.clear()
            try:
                changed = await self._read(widely=suspected)
            except Exception:  # the root of a task: the next read tries again
                logger.exception("redis_topology_failed")
                changed = False
            self._attempted.set()
            pause_s = _SOON_S if changed or not suspected else min(2 * pause_s, _SELDOM_S)
            await asyncio.sleep(pause_s * (0.5 + self._draw() / 2))
            try:
                every_s = EVERY_S if self._known is not None else pause_s
                await asyncio.wait_for(self._suspected.wait(), every_s)
            except TimeoutError:
                pass

    async def _read(self, *, widely: bool) -> bool:
        """Read the topology; return whether it has changed."""
        links = list(self._links().items())
        asked = [self._ask_link(node, link) for node, link in self._some(links)]
        if widely or not asked:
            connected = {node for node, _ in links}
            asked += [self._ask(node) for node in self._some(self._others(connected))]
        found = [each for each in await asyncio.gather(*asked) if each is not None]
        if not found:
            return False
        newest = max(found, key=lambda each: (each.epoch, each.works))
        if newest == self._known:
            return False
        if self._known is None or newest.masters != self._known.masters:
            masters = ", ".join(host_and_port(host, port) for host, port in newest.masters)
            logger.info("redis_topology_changed", extra={"masters": masters})
        self._known = newest
        self._learn(newest)
        return True

    def _others(self, connected: set[Node]) -> list[Node]:
        """Return all known servers but the connected ones, the configured ones first."""
        known = self._known
        nodes = [*self._seeds, *(() if known is None else (*known.masters, *known.others))]
        return [node for node in dict.fromkeys(nodes) if node not in connected]

    def _some(self, nodes: Sequence[_T]) -> Sequence[_T]:
        """Return a few, beginning at any."""
        if len(nodes) <= _MOST_ASKED:
            return nodes
        first = int(self._draw() * len(nodes))
        return [*nodes[first:], *nodes[:first]][:_MOST_ASKED]

    async def _ask_link(self, node: Node, link: PipelinedRedis) -> Topology | None:
        replies = await asyncio.gather(
            link.command(*_SLOTS), link.command(*_INFO), return_exceptions=True
        )
        slots, info = replies
        self._responded(node, not isinstance(slots, RedisUnavailable))
        if isinstance(slots, BaseException):
            if not isinstance(slots, RedisUnavailable | ReplyError):
                raise slots
            return None
        return read_topology(slots, None if isinstance(info, BaseException) else info, node)

    async def _ask(self, node: Node) -> Topology | None:
        """Ask a server without a connection."""
        try:
            async with asyncio.timeout(_ASK_S):
                return await ask_server(self._target, node)
        except (OSError, ReplyError, ValueError) as error:
            if isinstance(error, OtherKindError) and self._other_kind and not self._links():
                self._other_kind()
            reason = error.code if isinstance(error, ReplyError) else type(error).__name__
            fields = {"redis": host_and_port(node.host, node.port), "reason": reason}
            logger.debug("redis_topology_ask_failed", extra=fields)
            return None


async def ask_server(target: RedisAddress, node: Node) -> Topology:
    """
    Return the topology that one server knows.

    Raises:
        OSError: No connection; or the server cannot be used, as `RedisRefusedError`.
        ReplyError: It refuses the credential or the command.
        ValueError: The reply has an unknown form.
    """
    link = await open_connection(target.seed(*node))
    try:
        (slots,) = await link.call([_SLOTS])
        try:
            (info,) = await link.call([_INFO])
        except ReplyError:
            info = None
        return read_topology(slots, info, node)
    finally:
        link.abort()

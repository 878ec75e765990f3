"""
Batches of commands in flight, and the matching of replies to commands.

A batch holds the commands of one loop tick. It is *unsent* while there is no connection, then
*live*, and *late* once its deadline has passed: its futures have failed, but it stays queued until
its replies have arrived, since replies are matched by order. Late batches are always older than
live ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias, cast

from gateway.store.redis.connection import MORE, Replies, Reply, ReplyError

Reason: TypeAlias = Literal["timeout", "lost", "open", "full", "closed"]
"""timeout and lost: the command may have run. open, full and closed: it was not sent."""


class RedisUnavailable(Exception):  # noqa: N818 - a state of the client
    """
    No reply from Redis.

    Args:
        reason: See `Reason`.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"no reply from redis: {reason}")
        self.reason: Reason = reason


class Batch:
    """The commands of one tick. `waiting` is reversed: the next reply belongs to its last."""

    __slots__ = ("packed", "since", "waiting")

    def __init__(self, waiting: list[asyncio.Future[Reply]], packed: bytes, since: float) -> None:
        self.waiting = waiting
        self.packed = packed
        self.since = since

    def fail(self, reason: Reason) -> int:
        """Fail the pending futures in order; return their number."""
        failed = 0
        for future in reversed(self.waiting):
            if not future.done():
                future.set_exception(RedisUnavailable(reason))
                failed += 1
        return failed

    def resolve(self, replies: Replies, refused: Callable[[ReplyError], None]) -> int:
        """Resolve as many futures as replies have arrived; return their number."""
        waiting = self.waiting
        before = len(waiting)
        gets = replies.gets
        while waiting:
            reply = gets()
            if reply is MORE:
                break
            future = waiting.pop()
            if type(reply) is ReplyError:
                refused(reply)
                if not future.done():
                    future.set_exception(reply)
            elif not future.done():
                future.set_result(cast("Reply", reply))
        return before - len(waiting)


class InflightBatches:
    """
    The queues of unsent, live and late batches.

    Args:
        observe: Called with a round trip in seconds and the number of commands it applies to.
        refused: Called with every error reply.
    """

    __slots__ = ("_late", "_live", "_observe", "_refused", "_unsent", "failed_total", "pending")

    def __init__(
        self, observe: Callable[[float, int], None] | None, refused: Callable[[ReplyError], None]
    ) -> None:
        self._observe = observe
        self._refused = refused
        self._unsent: deque[Batch] = deque()
        self._live: deque[Batch] = deque()
        self._late: deque[Batch] = deque()
        self.pending = 0
        """Commands without a reply."""
        self.failed_total = 0
        """Commands that failed without a reply."""

    def __bool__(self) -> bool:
        return bool(self._unsent or self._live or self._late)

    def count_gathered(self) -> None:
        """Count a command of the next batch."""
        self.pending += 1

    def count_refused(self) -> None:
        """Count a command that failed before it was added to a batch."""
        self.failed_total += 1

    def queue(self, batch: Batch) -> None:
        """Keep a batch until there is a connection."""
        self._unsent.append(batch)

    def put_back(self, batch: Batch) -> None:
        """Keep a batch that `next_unsent` returned, before all others."""
        self._unsent.appendleft(batch)

    def sent(self, batch: Batch) -> None:
        """Mark a batch as written."""
        batch.packed = b""
        self._live.append(batch)

    def refuse(self, batch: Batch, reason: Reason) -> None:
        """Fail a batch that will not be written."""
        self._drop(batch, reason)

    def next_unsent(self) -> Batch | None:
        """Remove and return the oldest batch that waits for a connection."""
        return self._unsent.popleft() if self._unsent else None

    def resolve(self, replies: Replies, now: float) -> tuple[bool, bool]:
        """
        Resolve commands with all complete replies.

        Returns:
            Whether any reply was in time, and whether every reply belonged to a command.
        """
        in_time = False
        while True:
            late = bool(self._late)
            queue = self._late if late else self._live
            if not queue:
                return in_time, replies.gets() is MORE
            batch = queue[0]
            resolved = batch.resolve(replies, self._refused)
            self.pending -= resolved
            if resolved and not late:
                in_time = True
                if self._observe is not None:
                    self._observe(now - batch.since, resolved)
            if batch.waiting:
                return in_time, True
            queue.popleft()

    def expire(self, oldest: float) -> bool:
        """Fail all batches from `oldest` or before; return whether any of them was sent."""
        while self._unsent and self._unsent[0].since <= oldest:
            self._drop(self._unsent.popleft(), "timeout")
        expired = False
        while self._live and self._live[0].since <= oldest:
            batch = self._live.popleft()
            self.failed_total += batch.fail("timeout")
            self._late.append(batch)
            expired = True
        return expired

    def late_since(self, oldest: float) -> bool:
        """Return whether a batch from before `oldest` still lacks replies."""
        return bool(self._late) and self._late[0].since < oldest

    def fail_unsent(self, reason: Reason) -> None:
        """Fail the batches that wait for a connection."""
        while self._unsent:
            self._drop(self._unsent.popleft(), reason)

    def fail_sent(self, reason: Reason) -> None:
        """Fail the batches that were written: their connection is closed."""
        for queue in (self._late, self._live):
            while queue:
                self._drop(queue.popleft(), reason)

    def _drop(self, batch: Batch, reason: Reason) -> None:
        self.failed_total += batch.fail(reason)
        self.pending -= len(batch.waiting)

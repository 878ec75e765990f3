"""
Runs a script for many calls at once: the calls of one loop turn, by shard.

A command in a script costs more than the work of a call, so one script for several calls costs a
fraction of one script each. The calls of a batch are served in the order in which they were added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.redis.scripts import LuaScript

MOST_CALLS: Final = 64
"""Calls in one script; with limits about 1 ms of Redis."""
TRANSIENT: Final = frozenset((
    "ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF",
    "MOVED", "NOAUTH", "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN",
    "UNBLOCKED", "UNKILLABLE", "WRONGPASS",
))  # fmt: skip
"""Codes of error replies about the server, not about a call."""

Failure: TypeAlias = RedisUnavailable | ReplyError
Done: TypeAlias = Callable[[Reply | Failure], None]
"""Is called with the reply to one call, or why there is none. Must not raise."""


class Header(NamedTuple):
    """What precedes the calls of a shard in a command."""

    keys: tuple[Argument, ...]
    accounts: bytes
    """What precedes an account's id in the name of its key."""
    arguments: tuple[Argument, ...]


class GatheredCall(NamedTuple):
    """A call of a batch."""

    account_id: str
    arguments: tuple[Argument, ...]
    done: Done


_Calls: TypeAlias = dict[str, GatheredCall]
_NOTHING: Final[Mapping[str, GatheredCall]] = {}


class ScriptBatches:
    """
    The batches of one script.

    Args:
        bus: Redis.
        script: Takes the header's keys and those of the calls' accounts; the header's arguments,
            then the same number of arguments for each call.
        header: Returns the header for a shard.
        read: Returns the replies of the calls in their order, given the shard and the reply.
        gather_s: Calls are gathered until the end of the loop turn, or until this time after the
            last batch if that is later.
    """

    def __init__(
        self,
        bus: RedisBus,
        script: LuaScript,
        *,
        header: Callable[[int], Header],
        read: Callable[[int, Reply], Sequence[Reply]],
        gather_s: float = 0.0,
    ) -> None:
        self._bus = bus
        self._script = script
        self._header = header
        self._read = read
        self._gather_s = gather_s
        self._gathered: dict[int, _Calls] = {}
        self._sending: set[asyncio.Future[Any]] = set()
        self._armed = False
        self._sent_at = 0.0
        self.pending = 0
        """Calls without a reply."""

    def add(
        self,
        shard: int,
        key: str,
        account_id: str,
        arguments: tuple[Argument, ...],
        done: Done,
    ) -> None:
        """
        Add a call to the shard's batch.

        Args:
            shard: The shard.
            key: Names the call; one script serves each key once.
            account_id: The call's account, whose key the script may use.
            arguments: Of the call.
            done: Is called once, in a later loop turn.
        """
        calls = self._gathered.get(shard)
        if calls is None:
            calls = self._gathered[shard] = {}
        elif key in calls or len(calls) >= MOST_CALLS:
            self.send(shard)
            calls = self._gathered[shard] = {}
        calls[key] = GatheredCall(account_id, arguments, done)
        self.pending += 1
        if not self._armed:
            self._arm()

    def gathered(self, shard: int) -> Mapping[str, GatheredCall]:
        """Return the shard's calls that were not sent yet, a batch that may grow."""
        return self._gathered.get(shard, _NOTHING)

    def discard(self, shard: int, key: str) -> bool:
        """Remove a call that was not sent yet; return whether there was one."""
        calls = self._gathered.get(shard)
        if calls is None or calls.pop(key, None) is None:
            return False
        self.pending -= 1
        return True

    def send(self, shard: int) -> None:
        """Send the batch of a shard, if any, with the commands of this loop turn."""
        calls = self._gathered.pop(shard, None)
        if not calls:
            return
        try:
            parameters = self._parameters(shard, calls)
            command = self._bus.command(b"EVALSHA", self._script.sha, *parameters)
        except (TypeError, ValueError):  # text that has no UTF-8 form
            self._send_apart(shard, calls)
            return
        reply = asyncio.ensure_future(command)
        reply.add_done_callback(partial(self._replied, shard, calls))
        self._wait_for(reply)

    def _send_apart(self, shard: int, calls: _Calls) -> None:
        """Send the calls one by one; the one that cannot be encoded fails."""
        if len(calls) == 1:
            self._fail(calls, ReplyError("ERR an argument cannot be encoded"))
            return
        for key, call in calls.items():
            self._gathered[shard] = {key: call}
            self.send(shard)

    async def drain(self) -> None:
        """Send everything and wait for all replies, which come within the client's deadline."""
        self._send_all()
        while self._sending:
            await asyncio.wait(self._sending)
            self._send_all()

    def _wait_for(self, work: asyncio.Future[Any]) -> None:
        self._sending.add(work)
        work.add_done_callback(self._sending.discard)

    def _arm(self) -> None:
        self._armed = True
        loop = asyncio.get_running_loop()
        due = self._sent_at + self._gather_s
        if self._gather_s and loop.time() < due:
            loop.call_at(due, self._send_all)
        else:
            self._bus.before_flush(self._send_all)

    def _send_all(self) -> None:
        self._armed = False
        if self._gather_s:
            self._sent_at = asyncio.get_running_loop().time()
        for shard in list(self._gathered):
            self.send(shard)

    def _parameters(self, shard: int, calls: _Calls) -> tuple[Argument, ...]:
        # Every key is declared: a cluster checks no other while it moves the shard's slot.
        header = self._header(shard)
        accounts = dict.fromkeys([call.account_id for call in calls.values()])
        keys = [*header.keys, *[header.accounts + account.encode() for account in accounts]]
        parameters = [len(keys), *keys, *header.arguments]
        for call in calls.values():
            parameters += call.arguments
        return tuple(parameters)

    def _replied(self, shard: int, calls: _Calls, reply: asyncio.Future[Reply]) -> None:
        error = reply.exception()
        if error is None:
            self._deliver(shard, calls, reply.result())
        elif isinstance(error, ReplyError) and _is_worth_a_retry(error, calls):
            self._wait_for(asyncio.ensure_future(self._retry(shard, calls, error)))
        else:
            assert isinstance(error, RedisUnavailable | ReplyError)
            self._fail(calls, error)

    async def _retry(self, shard: int, calls: _Calls, error: ReplyError) -> None:
        """Load the script, or send the calls one by one, so that one cannot fail the others."""
        if error.code == "NOSCRIPT":
            parts = [calls]
        else:
            parts = [{key: call} for key, call in calls.items()]
        for part in parts:
            count, *parameters = self._parameters(shard, part)
            assert isinstance(count, int)
            try:
                reply = await self._bus.script(self._script, parameters[:count], parameters[count:])
            except (RedisUnavailable, ReplyError) as failure:
                self._fail(part, failure)
            else:
                self._deliver(shard, part, reply)

    def _deliver(self, shard: int, calls: _Calls, reply: Reply) -> None:
        self.pending -= len(calls)
        for call, result in zip(calls.values(), self._read(shard, reply), strict=True):
            call.done(result)

    def _fail(self, calls: _Calls, error: Failure) -> None:
        self.pending -= len(calls)
        for call in calls.values():
            call.done(error)


def resolve(future: asyncio.Future[Reply], result: Reply | Failure) -> None:
    """Resolve a future with what a `Done` is called with, unless it was cancelled."""
    if future.done():
        return
    if isinstance(result, RedisUnavailable | ReplyError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _is_worth_a_retry(error: ReplyError, calls: _Calls) -> bool:
    return error.code == "NOSCRIPT" or (len(calls) > 1 and error.code not in TRANSIENT)

"""Calls of one script, gathered by shard, with a Redis whose replies a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from gateway.store.redis.batches import MOST_CALLS, Header, ScriptBatches, resolve
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.redis.scripts import lua_script

SCRIPT = lua_script("double", b"return ARGV")


class FakeBus:
    """Doubles each argument after the header; `failures` are raised first, one for a command."""

    def __init__(self) -> None:
        self.sent: list[tuple[Argument, ...]] = []
        self.failures: list[Exception] = []

    def before_flush(self, gather: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(gather)

    def command(self, *args: Argument) -> asyncio.Future[Reply]:
        if "\ud800" in args:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "surrogates not allowed")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.sent.append(args[2:])
        if self.failures:
            future.set_exception(self.failures.pop(0))
        else:
            future.set_result([2 * int(each) for each in args[6:]])
        return future

    async def script(
        self, script: object, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        return await self.command(b"EVALSHA", SCRIPT.sha, len(keys), *keys, *args)


class World:
    """Batches over the fake, and the replies to the calls."""

    def __init__(self, gather_s: float = 0.0) -> None:
        self.bus = FakeBus()
        self.batches = ScriptBatches(
            self.bus,  # type: ignore[arg-type]
            SCRIPT,
            header=lambda shard: Header((f"key{shard}",), b"account:", (f"shard{shard}",)),
            read=lambda _, reply: reply if isinstance(reply, list) else [],
            gather_s=gather_s,
        )
        self.done: dict[str, object] = {}

    def add(self, shard: int, number: int) -> None:
        name = f"call{number}"
        self.batches.add(shard, name, f"a{shard}", (number,), partial(self.done.__setitem__, name))


async def test_calls_of_one_turn_are_one_script_for_each_shard() -> None:
    """The header comes once, the replies in the order of the calls."""
    world = World()

    for number in (1, 2, 3):
        world.add(number % 2, number)
    await world.batches.drain()

    assert world.bus.sent == [
        (2, "key1", b"account:a1", "shard1", 1, 3),
        (2, "key0", b"account:a0", "shard0", 2),
    ]
    assert world.done == {"call1": 2, "call2": 4, "call3": 6}
    assert world.batches.pending == 0


async def test_batch_is_bounded() -> None:
    """No script serves more than MOST_CALLS calls."""
    world = World()

    for number in range(MOST_CALLS + 1):
        world.add(0, number)
    await world.batches.drain()

    assert [len(args) - 4 for args in world.bus.sent] == [MOST_CALLS, 1]


async def test_first_batch_is_sent_at_once_and_the_next_is_gathered() -> None:
    """A pause ends the gathering; until then calls of several turns share a script."""
    world = World(gather_s=0.02)
    world.add(0, 1)
    await asyncio.sleep(0)
    first = list(world.bus.sent)
    world.add(0, 2)
    await asyncio.sleep(0)
    world.add(0, 3)
    gathered = list(world.batches.gathered(0))
    await world.batches.drain()

    assert first == [(2, "key0", b"account:a0", "shard0", 1)]
    assert gathered == ["call2", "call3"]
    assert world.bus.sent[1:] == [(2, "key0", b"account:a0", "shard0", 2, 3)]
    assert list(world.batches.gathered(0)) == []


async def test_call_is_discarded_before_it_is_sent_only() -> None:
    """A discarded call is not sent, one that was sent is not discarded."""
    world = World()
    world.add(0, 1)
    world.add(0, 2)

    assert world.batches.discard(0, "call1")
    await world.batches.drain()

    assert not world.batches.discard(0, "call2")
    assert world.bus.sent == [(2, "key0", b"account:a0", "shard0", 2)]
    assert world.done == {"call2": 4}


@pytest.mark.parametrize("failure", [RedisUnavailable("lost"), ReplyError("LOADING wait")])
async def test_failure_of_redis_is_each_calls(failure: Exception) -> None:
    """Nothing is sent again: the calls may have been served."""
    world = World()
    world.bus.failures = [failure]
    world.add(0, 1)
    world.add(0, 2)
    await world.batches.drain()

    assert world.done == {"call1": failure, "call2": failure}
    assert (len(world.bus.sent), world.batches.pending) == (1, 0)


async def test_error_about_a_call_fails_no_other() -> None:
    """The calls are sent one by one after an error that is not about the server."""
    world = World()
    error = ReplyError("ERR one of them")
    world.bus.failures = [error, error]
    world.add(0, 1)
    world.add(0, 2)
    await world.batches.drain()

    assert world.done == {"call1": error, "call2": 4}
    assert [args[4:] for args in world.bus.sent] == [(1, 2), (1,), (2,)]


async def test_argument_without_a_form_fails_no_other() -> None:
    """The other calls of its batch are served."""
    world = World()
    world.add(0, 1)
    world.batches.add(0, "odd", "a0", ("\ud800",), partial(world.done.__setitem__, "odd"))
    world.add(0, 2)
    await world.batches.drain()

    assert (world.done["call1"], world.done["call2"]) == (2, 4)
    assert isinstance(world.done["odd"], ReplyError)
    assert world.batches.pending == 0


async def test_unknown_script_is_loaded_and_the_batch_sent_again() -> None:
    """Redis was restarted without its scripts."""
    world = World()
    world.bus.failures = [ReplyError("NOSCRIPT no matching script")]
    world.add(0, 1)
    world.add(0, 2)
    await world.batches.drain()

    assert world.done == {"call1": 2, "call2": 4}
    assert len(world.bus.sent) == 2


async def test_cancelled_future_ignores_its_reply() -> None:
    """A reply to a call that nobody waits for is dropped."""
    waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    waiting.cancel()

    resolve(waiting, 1)

    assert waiting.cancelled()

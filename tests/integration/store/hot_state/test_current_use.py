"""What pages show of the limiter's counters, against what the limiter itself says."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.store.hot_state import current_use
from gateway.store.hot_state.current_use import CurrentUse, KeyUse, MoneyInUse
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from tests.support.metering import MeteringWorld, ask_for

pytestmark = pytest.mark.redis
LIMITS = KeyLimits(rpm=3, tpm=100, concurrency=5)


def reader(world: MeteringWorld) -> CurrentUse:
    return CurrentUse(world.worker.bus, world.prefix, world.clock)


async def test_money_is_what_the_limiter_withholds(world: MeteringWorld) -> None:
    """Holds of running calls, then the cost of ended ones until the ledger has booked it."""
    use = reader(world)
    nothing = await use.money("acct_1")
    world.sql.put(balance=1000)
    first = await world.reserve()
    await world.reserve()
    running = await use.money("acct_1")
    event = await world.worker.settle(first, Usage(input=10, output=5))
    ended = await use.money("acct_1")
    available = await world.probe.available()
    await world.ledger.book()

    assert nothing == MoneyInUse()
    assert running is not None
    assert (running.running, running.held_nanousd > 0, running.unbooked_nanousd) == (2, True, 0)
    assert ended == MoneyInUse(1, running.held_nanousd // 2, event.cost_nanousd)
    assert 1000 - ended.held_nanousd - ended.unbooked_nanousd == available
    assert await use.money("acct_1") == MoneyInUse(1, running.held_nanousd // 2, 0)


async def test_key_counts_its_minute_as_the_headers_say(world: MeteringWorld) -> None:
    """Requests and tokens drain as in the limiter; what is not limited is not counted."""
    use = reader(world)
    world.sql.put(balance=10**6)
    headroom = (await world.reserve(limits=LIMITS)).headroom
    first = await use.key("acct_1", "key_1", LIMITS)
    world.clock.now_ms += 20_001
    drained = await use.key("acct_1", "key_1", LIMITS)

    assert headroom.requests is not None
    assert headroom.tokens is not None
    assert first == KeyUse(1, 3 - headroom.requests.remaining, 100 - headroom.tokens.remaining)
    assert (first.tokens or 0) > 0
    assert drained is not None
    assert drained == KeyUse(1, 0, max(0, (first.tokens or 0) - 33))
    assert await use.key("acct_1", "key_1", KeyLimits(concurrency=1)) == KeyUse(1)
    assert await use.key("acct_1", "key_other", LIMITS) == KeyUse(0, 0, 0)


async def test_running_calls_of_a_key_without_limits_are_found(
    world: MeteringWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this key until they end; unknown if too many calls run."""
    use = reader(world)
    assert await use.key("acct_1", "key_1", None) == KeyUse(0)
    world.sql.put(balance=10**6)
    await world.reserve()
    ended = await world.reserve()
    asked = ask_for(key_id="key_2")
    others = [msgspec.structs.replace(asked, request_id=f"req_of_2_{n}") for n in range(600)]
    # More than Redis keeps in one piece, which it would return at once.
    await asyncio.gather(*(world.worker.reserve(each) for each in others))
    running = [await use.key("acct_1", key, None) for key in ("key_1", "key_2", "key_3")]
    await world.worker.settle(ended, Usage(input=10, output=5))

    assert running == [KeyUse(2), KeyUse(600), KeyUse(0)]
    assert await use.key("acct_1", "key_1", None) == KeyUse(1)
    monkeypatch.setattr(current_use, "MOST_SCANNED", 100)
    assert await use.key("acct_1", "key_1", None) == KeyUse()


async def test_without_redis_nothing_is_known() -> None:
    """Not zero."""
    nowhere = PipelinedRedis(
        parse_address("redis://127.0.0.1:1/0"), RedisLimits(command_timeout_s=0.01), scripts=[]
    )
    use = CurrentUse(nowhere, "capio:", lambda: 0)

    assert (await use.money("acct_1"), await use.key("acct_1", "key_1", LIMITS)) == (None, None)
    await nowhere.aclose()

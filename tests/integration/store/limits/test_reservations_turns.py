"""Calls that are admitted and settled in one turn of the loop, against a real Valkey."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReservationRequest
from gateway.store.redis.shards import shard_of
from tests.support.metering import MODEL, MeteringWorld, ask_for, event_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
OTHER = next(name for n in range(1000) if shard_of(name := f"acct_x{n}") == shard_of("acct_1"))
"""An account of the same shard, so that its calls are in the same scripts."""


async def reserve_all(
    world: MeteringWorld, *asks: ReservationRequest
) -> list[Reservation | BaseException]:
    """Reserve for all in one turn."""
    work = [world.worker.reserve(ask) for ask in asks]
    return await asyncio.gather(*work, return_exceptions=True)


def refused(results: list[Reservation | BaseException]) -> list[str | None]:
    """Return the limit that refused each call; None: it was admitted."""
    limits: list[str | None] = []
    for result in results:
        if isinstance(result, Reservation):
            limits.append(None)
            continue
        assert isinstance(result, GatewayError)
        limits.append((result.detail or "").split()[0])
    return limits


async def settle_all(world: MeteringWorld, *calls: Reservation | BaseException) -> None:
    """Settle all in one turn, and wait for it."""
    for held in calls:
        assert isinstance(held, Reservation)
        await world.metering.reservations.settle(held, event_for(held.request, Usage(input=7)))
    await world.metering.journal.settlements.drain()


async def scripts_run(world: MeteringWorld) -> int:
    """Return how many scripts Redis has run."""
    stats = await world.probe.client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_calls_of_one_turn_take_limits_in_their_order(world: MeteringWorld) -> None:
    """Of five calls the first two fit; a refused one takes nothing from those behind it."""
    world.sql.put(balance=100, credit=0, limits=Limits(concurrency=3), trusted=True)
    await world.run()
    before = await scripts_run(world)

    results = await reserve_all(
        world,
        ask_for(input_tokens=40, max_tokens=20),
        ask_for(input_tokens=50, max_tokens=20),
        ask_for(input_tokens=10, max_tokens=10),
        ask_for(input_tokens=10, max_tokens=5),
        ask_for(input_tokens=1, max_tokens=1),
    )

    assert refused(results) == [None, "limit=credit", None, None, "limit=concurrency"]
    assert await world.probe.held() == (3, 95)
    # The refused call is asked again after the account was loaded.
    assert await scripts_run(world) - before == 3
    await settle_all(world, *[each for each in results if isinstance(each, Reservation)])
    assert await world.probe.leftovers() == []
    assert await world.probe.available() == 100 - 3 * 7
    assert await world.probe.leases() == 0


async def test_limits_of_keys_and_models_count_within_one_turn(world: MeteringWorld) -> None:
    """Requests and tokens a minute and budgets see the calls before in the same script."""
    world.sql.put()
    rates = KeyLimits(rpm=3, tpm=1000, models={"m": Limits(tpm=90)})
    money = KeyLimits(budget_day_nanousd=70)
    await world.run(key_id="key_r", limits=rates)
    await world.run(key_id="key_b", limits=money)
    by_rate = [ask_for(key_id="key_r", limits=rates) for _ in range(4)]
    by_money = [ask_for(key_id="key_b", limits=money) for _ in range(4)]

    results = await reserve_all(world, *by_rate, *by_money)

    minute, day = "limit=requests_per_minute", "limit=budget_day"
    assert refused(results) == [None, None, minute, minute, None, None, day, day]
    tokens = await reserve_all(world, *[ask_for(key_id="key_t", limits=rates) for _ in range(5)])
    per_token = "limit=tokens_per_minute"
    assert refused(tokens) == [None, None, None, minute, minute]
    await settle_all(world, *[each for each in tokens if isinstance(each, Reservation)])
    world.clock.now_ms += 40_000
    tokens = await reserve_all(
        world,
        *[ask_for(key_id="key_t", limits=rates, input_tokens=30, max_tokens=29) for _ in range(2)],
    )
    assert refused(tokens) == [None, per_token]


async def test_account_with_malformed_fields_fails_no_other_of_its_shard(
    world: MeteringWorld,
) -> None:
    """Its call is refused and its event set aside, the others of the scripts go on."""
    world.sql.put(balance=1000, credit=0, trusted=True)
    world.sql.put(OTHER, balance=1000, credit=0, trusted=True)
    await world.run(account_id=OTHER)
    await world.ledger.book()
    held = await reserve_all(world, ask_for(), ask_for(account_id=OTHER), ask_for())
    assert refused(held) == [None, None, None]
    other = world.probe.names.accounts + OTHER.encode()
    await world.probe.client.hset(other, b"n", b"many")

    results = await reserve_all(world, ask_for(), ask_for(account_id=OTHER), ask_for())
    await settle_all(world, *held)

    # Without Redis the worker admits by its share of the limits.
    degraded = [each.degraded for each in results if isinstance(each, Reservation)]
    assert degraded == [False, True, False]
    waiting = {each.account_id for each in await world.probe.waiting()}
    assert waiting == {"acct_1"}
    await wait_until(lambda: world.worker.metrics.usage_refused._value.get() == 1)
    await settle_all(world, results[0], results[2])
    assert await world.probe.leftovers() == []
    assert await world.probe.available() == 1000 - 4 * 7


async def test_account_of_another_type_fails_no_other_of_its_shard(world: MeteringWorld) -> None:
    """A key that is no hash is an error of its calls alone."""
    world.sql.put()
    world.sql.put(OTHER)
    await world.run()
    await world.probe.client.set(world.probe.names.accounts + OTHER.encode(), b"not a hash")

    results = await reserve_all(world, ask_for(account_id=OTHER), ask_for())

    assert isinstance(results[0], GatewayError)
    assert results[0].kind is ErrorKind.STORE_UNAVAILABLE
    assert isinstance(results[1], Reservation)
    assert await world.probe.held() == (1, 30)


async def test_next_call_of_a_client_is_not_refused_for_its_last_one(world: MeteringWorld) -> None:
    """The settlement of an ended call may wait; a call that it makes room for is admitted."""
    world.sql.put(limits=Limits(concurrency=1))
    for _ in range(15):
        held = await world.worker.reserve(ask_for())
        await world.metering.reservations.settle(held, event_for(held.request, Usage(input=7)))
        # No wait: as a client that calls again at once.
    held = await world.worker.reserve(ask_for())

    error = await world.refusal()

    assert (error.detail or "").startswith("limit=concurrency")
    assert await world.probe.held() == (1, 30)


async def test_call_cancelled_in_the_turn_of_its_admission_holds_nothing(
    world: MeteringWorld,
) -> None:
    """Neither a call that was not sent nor one whose reply is on its way stays reserved."""
    world.sql.put()
    await world.run()
    for turns in (1, 2, 3):
        held = await world.reserve()
        asking = asyncio.create_task(world.worker.reserve(ask_for()))
        # The release must not overtake the admission by joining a batch that is sent before it.
        await world.metering.reservations.settle(held, event_for(held.request))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        (result,) = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(result, Reservation):  # the reply was faster
            await world.metering.reservations.release(result)
        await world.metering.journal.settlements.drain()

        assert await world.probe.leftovers() == []
        assert await world.probe.leases() == 0


async def test_release_of_an_earlier_model_leaves_the_call_of_its_fallback(
    world: MeteringWorld,
) -> None:
    """Neither a repeated release nor a gathered one ends the call of another or the same model."""
    world.sql.put()
    await world.run()
    fallback = msgspec.structs.replace(MODEL, name="m2")
    first = await world.worker.reserve(ask_for("req_f"))

    asking = asyncio.create_task(world.worker.reserve(ask_for("req_f", model=fallback)))
    await asyncio.sleep(0)  # it has asked, and nothing is sent yet
    await world.metering.reservations.release(first)
    second = await asyncio.wait_for(asking, 5)
    await world.metering.journal.settlements.drain()
    of_fallback = await world.probe.held(), await world.probe.leases()
    await world.metering.journal.settlements.drain()  # so that the release is gathered
    await world.metering.reservations.release(second)
    third = await world.worker.reserve(ask_for("req_f", model=fallback))
    await world.metering.journal.settlements.drain()

    assert of_fallback == ((1, 30), 1)
    assert (await world.probe.held(), await world.probe.leases()) == ((1, 30), 1)
    await settle_all(world, third)
    assert await world.probe.leftovers() == []


async def test_settlements_of_one_turn_are_one_script(world: MeteringWorld) -> None:
    """Each call has its event in the stream, and the sums are those of single settlements."""
    limits = KeyLimits(budget_total_nanousd=10_000, tpm=1000)
    world.sql.put(balance=10_000, credit=0, trusted=True)
    await world.run(limits=limits)
    held = [await world.reserve(limits=limits) for _ in range(20)]
    await asyncio.sleep(0.005)
    before = await scripts_run(world)

    await settle_all(world, *held)

    assert await scripts_run(world) - before == 1
    waiting = [each.request_id for each in await world.probe.waiting()]
    assert waiting[-20:] == [
        each.request.request_id for each in held if isinstance(each, Reservation)
    ]
    assert await world.probe.number("pend") == 20 * 7
    await world.ledger.book()
    assert await world.probe.available() == world.sql.balance() == 10_000 - 20 * 7
    assert await world.probe.leftovers() == []

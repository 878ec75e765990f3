"""Workers that die, stall or come back: leases, checkpoints, and the sweeper."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.limits import KeyLimits
from gateway.core.model import CallRecord, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation
from gateway.store.booking.rows import row_of
from gateway.store.limits import leases
from tests.support.metering import (
    NOON_MS,
    MeteringWorker,
    MeteringWorld,
    ask_for,
    event_for,
    reports,
)

pytestmark = pytest.mark.redis
LEASE_MS = 30_000
LIMITED = KeyLimits(tpm=1000, concurrency=1)


@pytest.fixture
def world(world: MeteringWorld) -> MeteringWorld:
    """The account has money, so that its calls are charged to it."""
    world.sql.put(balance=1000, credit=0)
    return world


def runs_on(reservation: Reservation, usage: Usage) -> CallRecord:
    """Let a call have used this much so far; return its event."""
    return reports(reservation, event_for(reservation.request, usage))


async def test_call_of_a_dead_worker_is_settled_with_its_checkpoint(world: MeteringWorld) -> None:
    """Its last checkpoint is charged; its slot and its hold are released."""
    held = await world.reserve(limits=LIMITED, input_tokens=100, max_tokens=100)
    runs_on(held, Usage(input=100, output=30))
    await world.metering.running.renew()

    world.clock.now_ms += LEASE_MS
    swept = await world.metering.sweeper.sweep(), await world.metering.sweeper.sweep()
    (event,) = await world.probe.waiting()

    assert swept == (1, 0)
    assert (event.outcome, event.estimated, event.cost_nanousd) == ("abandoned", True, 130)
    assert event.usage == Usage(input=100, output=30)
    assert await world.probe.available() == 870
    assert await world.probe.leftovers() == []
    await world.reserve(limits=LIMITED, input_tokens=100, max_tokens=100)


async def test_call_that_dies_before_its_first_checkpoint_costs_nothing(
    world: MeteringWorld,
) -> None:
    """Its record is bare, and one that the ledger can store."""
    ask = ask_for("req_é", model=msgspec.structs.replace(ask_for().model, name='модель "x"'))
    await world.worker.reserve(ask)

    world.clock.now_ms += LEASE_MS
    await world.metering.sweeper.sweep()
    (event,) = await world.probe.waiting()

    assert event == CallRecord(
        request_id="req_é", at_ms=event.at_ms, key_id="key_1", account_id="acct_1",
        model='модель "x"', endpoint="chat_completions", client_wire="openai",
        outcome="abandoned", estimated=True, attempts=0,
    )  # fmt: skip
    assert row_of(msgspec.json.encode(event))["cost_nanousd"] == 0
    assert await world.probe.available() == 1000
    assert await world.ledger.book() == 1


async def test_call_that_is_heard_of_is_not_swept(world: MeteringWorld) -> None:
    """A call whose lease is renewed is not swept, however long it runs."""
    held = await world.reserve()
    for _ in range(5):
        world.clock.now_ms += LEASE_MS - 1
        await world.metering.running.renew()
        assert await world.metering.sweeper.sweep() == 0

    await world.worker.settle(held, Usage(input=1))

    assert await world.probe.available() == 999


async def test_call_that_is_heard_of_keeps_what_it_took(world: MeteringWorld) -> None:
    """At its end the tokens that it did not use are given back, whole."""
    held = await world.reserve(limits=LIMITED, input_tokens=100, max_tokens=100)
    await world.metering.running.renew()
    await world.worker.settle(held, Usage(input=100, output=30))

    after = await world.reserve(limits=LIMITED, input_tokens=10, max_tokens=0)

    assert after.headroom.tokens is not None
    assert after.headroom.tokens.remaining == 1000 - 130 - 10


async def test_stream_that_outgrows_its_hold_holds_more(world: MeteringWorld) -> None:
    """New calls are refused before the money is gone; the stream itself goes on."""
    held = await world.reserve(input_tokens=100, max_tokens=100)
    runs_on(held, Usage(input=100, output=500))
    await world.metering.running.renew()
    during = await world.probe.held()
    with pytest.raises(GatewayError) as refused:
        await world.reserve(input_tokens=101, max_tokens=0)
    runs_on(held, Usage(input=100, output=2000))
    await world.metering.running.renew()
    beyond = await world.probe.held()
    await world.worker.settle(held, Usage(input=100, output=2100))

    assert during == (1, 900)
    assert refused.value.kind is ErrorKind.NO_CREDIT
    assert beyond == (1, 3150)
    assert await world.probe.available() == 1000 - 2200
    assert await world.probe.leftovers() == []


async def test_call_settled_after_it_was_swept_takes_the_checkpoints_place(
    world: MeteringWorld,
) -> None:
    """Its worker lived after all: while the checkpoint waits the real event replaces it."""
    held = await world.reserve()
    runs_on(held, Usage(input=10))
    await world.metering.running.renew()
    world.clock.now_ms += LEASE_MS
    await world.metering.sweeper.sweep()

    event = await world.worker.settle(held, Usage(input=10, output=9))
    await world.worker.settle(held, Usage(input=10, output=9))

    assert await world.probe.waiting() == [event]
    assert await world.probe.available() == 981
    await world.ledger.book()
    assert await world.probe.available() == world.sql.balance() == 981


async def test_call_settled_after_its_checkpoint_was_booked_costs_the_difference(
    world: MeteringWorld,
) -> None:
    """The real event counts in the end, once, also when it is sent again."""
    held = await world.reserve()
    runs_on(held, Usage(input=10))
    await world.metering.running.renew()
    world.clock.now_ms += LEASE_MS
    await world.metering.sweeper.sweep()
    await world.ledger.book()

    event = await world.worker.settle(held, Usage(input=10, output=9))
    await world.ledger.book()
    await world.worker.settle(held, Usage(input=10, output=9))
    await world.ledger.book()

    assert world.sql.calls[held.request.request_id] == event
    assert await world.probe.available() == world.sql.balance() == 981
    assert await world.probe.number("pend") == 0


async def test_budget_after_a_late_settlement_is_what_sql_has_spent(world: MeteringWorld) -> None:
    """What Redis knows of a key's spending follows a correction, up and down to nothing."""
    budget = KeyLimits(budget_total_nanousd=100)
    for final, left in ((Usage(input=10, output=9), 81), (Usage(), 81)):
        held = await world.reserve(limits=budget, max_tokens=0)
        runs_on(held, Usage(input=12))
        await world.metering.running.renew()
        world.clock.now_ms += LEASE_MS
        await world.metering.sweeper.sweep()
        await world.ledger.book()
        await world.worker.settle(held, final)
        await world.ledger.book()

        fits = await world.reserve(limits=budget, input_tokens=left, max_tokens=0)
        await world.worker.settle(fits)
        refused = await world.refusal(limits=budget, input_tokens=left + 1, max_tokens=0)
        assert refused.kind is ErrorKind.BUDGET_SPENT
    assert await world.probe.leftovers() == []


async def test_later_checkpoint_takes_the_place_of_an_earlier_one(world: MeteringWorld) -> None:
    """A worker that came back and died for good leaves two: the larger counts, in any order."""
    held = await world.reserve()
    for output in (1, 9):
        runs_on(held, Usage(input=10, output=output))
        await world.metering.running.renew()
        world.clock.now_ms += LEASE_MS
        await world.metering.sweeper.sweep()
    waiting = await world.probe.waiting()
    await world.ledger.book()
    for output in (5, 20):
        runs_on(held, Usage(input=10, output=output))
        await world.metering.running.renew()
        world.clock.now_ms += LEASE_MS
        await world.metering.sweeper.sweep()
        await world.ledger.book()

    assert [event.cost_nanousd for event in waiting] == [19]
    assert await world.probe.available() == world.sql.balance() == 970
    assert await world.probe.leftovers() == []


async def test_call_that_is_swept_after_it_was_settled_is_nothing(world: MeteringWorld) -> None:
    """A settlement ends the lease."""
    held = await world.reserve()
    event = await world.worker.settle(held, Usage(input=10))

    world.clock.now_ms += LEASE_MS

    assert await world.metering.sweeper.sweep() == 0
    assert await world.probe.waiting() == [event]


async def test_calls_are_swept_in_every_shard_and_batch(world: MeteringWorld) -> None:
    """More abandoned calls than a batch holds, in many shards, are all swept."""
    for n in range(8):
        world.sql.put(f"acct_{n}")
    for n in range(250):
        await world.reserve(account_id=f"acct_{n % 7 + 1 if n % 2 else 0}")

    world.clock.now_ms += LEASE_MS

    assert await world.metering.sweeper.sweep() == 250
    assert world.worker.metrics.abandoned._value.get() == 250


async def test_sweeper_rests_for_a_lease_and_yields_to_others(world: MeteringWorld) -> None:
    """A sweeper waits for one lease after its start; then one worker sweeps at a time."""
    now = 1000.0
    sweeper = world.metering.sweeper
    sweeper._clock = lambda: now
    sweeper._rest_until = now + 30
    await world.reserve()
    world.clock.now_ms += LEASE_MS

    resting = await sweeper.turn()
    now += 30
    first, second = await sweeper.turn(), await sweeper.turn()

    assert (resting, first, second) == (False, True, False)
    assert len(await world.probe.waiting()) == 1


async def test_running_calls_are_entered_again_into_an_empty_redis(
    valkey_url: str, tmp_path: Path
) -> None:
    """Slots and holds count again, and end with the calls."""
    world = MeteringWorld(valkey_url, tmp_path)
    world.sql.put(balance=1000, credit=0)
    await world.worker.start()
    try:
        held = [await world.reserve(limits=KeyLimits(concurrency=3, tpm=500)) for _ in range(3)]
        runs_on(held[0], Usage(input=5))
        async for name in world.probe.client.scan_iter(f"{world.ledger.reader._dead[:-10]}*"):
            await world.probe.client.delete(name)

        await world.metering.running.renew()
        with pytest.raises(GatewayError) as refused:
            await world.reserve(limits=KeyLimits(concurrency=3))
        for call in held:
            await world.worker.settle(call, Usage(input=5))

        assert refused.value.kind is ErrorKind.RATE_LIMITED
        assert await world.probe.leftovers() == []
        assert await world.probe.available() == 985
    finally:
        await world.close()


async def test_renewal_of_a_call_that_has_ended_is_not_sent(world: MeteringWorld) -> None:
    """A call settled while others are renewed does not come back."""
    held = await world.reserve()
    running = world.metering.running
    renewal = leases._Renewal(held.request.request_id, world.probe.key, b"")
    await world.worker.settle(held)

    await running._send(world.probe.names.shard, [renewal])

    assert len(running) == 0
    assert await world.probe.leases() == 0


async def test_metering_runs_and_ends(valkey_url: str, tmp_path: Path) -> None:
    """Started, it renews by itself, takes a return of Redis, and ends cleanly."""
    world = MeteringWorld(valkey_url, tmp_path)
    worker: MeteringWorker = world.worker
    world.sql.put()
    await worker.start()
    worker.metering.start()
    held = await world.reserve()
    worker.metering.redis_returned()
    await worker.settle(held, Usage(input=3), at_ms=NOON_MS)

    await worker.close()
    await worker.metering.aclose()

    assert [event.request_id for event in await world.probe.waiting()] == [held.request.request_id]
    await world.ledger.close()
    await world.probe.close()

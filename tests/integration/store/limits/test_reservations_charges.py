"""Credit, holds and charges against a real Valkey and a ledger over a fake SQL."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Prices, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.snapshot import Position
from tests.support.metering import MODEL, MeteringWorld, ask_for, event_for

pytestmark = pytest.mark.redis
FREE = msgspec.structs.replace(MODEL, prices=Prices(0, 0, 0, 0, 0))


async def test_account_without_terms_is_admitted_and_recorded(world: MeteringWorld) -> None:
    """Postpaid without a limit, no limits: a call holds, is charged, and leaves one event."""
    world.sql.put()

    held = await world.reserve(input_tokens=10, max_tokens=20)
    during = await world.probe.held(), await world.probe.leases()
    event = await world.worker.settle(held, Usage(input=10, output=5))

    assert (held.hold_nanousd, held.tokens, held.degraded) == (30, 30, False)
    assert during == ((1, 30), 1)
    assert await world.probe.leftovers() == []
    assert await world.probe.leases() == 0
    assert await world.probe.waiting() == [event]
    assert await world.probe.available() == -15
    assert world.sql.loads == 1


async def test_prepaid_account_is_refused_what_its_balance_does_not_cover(
    world: MeteringWorld,
) -> None:
    """The refusal names what is available, what would be held, and what to do."""
    world.sql.put(balance=100, credit=0)

    first = await world.reserve(input_tokens=10, max_tokens=60)
    error = await world.refusal(input_tokens=1, max_tokens=30)
    await world.reserve(input_tokens=0, max_tokens=30)
    await world.worker.settle(first, Usage(input=10, output=1))
    await world.reserve(input_tokens=0, max_tokens=59)

    assert error.kind is ErrorKind.NO_CREDIT
    assert error.message == (
        "Not enough credit: $0.00000003 is available, but this call would hold $0.000000031 until "
        "it ends. Add credit at http://127.0.0.1:8080/app/credits, or lower max_tokens."
    )
    assert error.retry_after_s is None
    assert await world.probe.available() == 0


async def test_postpaid_account_is_admitted_down_to_its_credit_limit(world: MeteringWorld) -> None:
    """A credit limit is money like a balance."""
    world.sql.put(balance=-50, credit=100)

    await world.reserve(input_tokens=0, max_tokens=50)

    assert (await world.refusal(input_tokens=0, max_tokens=1)).kind is ErrorKind.NO_CREDIT


async def test_free_call_is_admitted_without_any_credit(world: MeteringWorld) -> None:
    """A free model needs no credit."""
    world.sql.put(balance=-5, credit=0)

    held = await world.reserve(model=FREE)
    event = await world.worker.settle(held)

    assert held.hold_nanousd == 0
    assert await world.probe.waiting() == [event]
    assert await world.probe.leftovers() == []


async def test_top_up_is_found_by_the_call_that_would_be_refused(world: MeteringWorld) -> None:
    """Before a call is refused for lack of credit, its balance is read from SQL."""
    world.sql.put(balance=0, credit=0)
    await world.refusal()
    world.sql.credit("acct_1", 1000)
    world.metering.accounts._asked.clear()

    await world.reserve()

    assert await world.probe.number("base") == 1000


async def test_refused_accounts_do_not_ask_sql_at_every_call(world: MeteringWorld) -> None:
    """Repeated calls without credit do not query SQL each time."""
    world.sql.put(balance=0, credit=0)

    for _ in range(20):
        await world.refusal()

    assert world.sql.loads == 2


async def test_refresh_brings_balance_terms_and_limits(world: MeteringWorld) -> None:
    """After a change in SQL one call of `refresh` suffices for all workers."""
    world.sql.put(balance=10, credit=0)
    await world.refusal(max_tokens=100)
    world.sql.put(balance=5, credit=500, limits=Limits(concurrency=1))

    assert await world.metering.accounts.refresh("acct_1")
    await world.reserve(max_tokens=100)
    error = await world.refusal(max_tokens=1)

    assert error.message.startswith("The limit of 1 concurrent calls of this account is reached")
    world.sql.put(balance=5, credit=500)
    await world.metering.accounts.refresh("acct_1")
    await world.reserve(max_tokens=1)


async def test_balance_of_an_older_position_never_wins(world: MeteringWorld) -> None:
    """A slow read of SQL does not undo a charge that is booked meanwhile."""
    world.sql.put(balance=100, credit=0)
    old = world.sql.accounts["acct_1"]
    await world.run(Usage(input=10), max_tokens=20)
    await world.ledger.book()
    newer = world.sql.accounts["acct_1"]
    world.sql.accounts["acct_1"] = old

    refreshed = await world.metering.accounts.refresh("acct_1")

    assert refreshed is False
    assert await world.probe.available() == 90
    world.sql.accounts["acct_1"] = newer
    assert await world.metering.accounts.refresh("acct_1")


async def test_key_of_no_account_is_refused(world: MeteringWorld) -> None:
    """A key whose account does not exist is refused."""
    assert (await world.refusal()).kind is ErrorKind.FORBIDDEN


async def test_booked_calls_do_not_change_what_is_spent(world: MeteringWorld) -> None:
    """From the stream into SQL: each cost counts once, wherever it is."""
    world.sql.put(balance=1000, credit=0)
    key = KeyLimits(budget_day_nanousd=500)
    for _ in range(5):
        await world.run(Usage(input=20), limits=key, input_tokens=20, max_tokens=0)
        before = await world.probe.available()
        await world.ledger.book()
        assert await world.probe.available() == before

    error = await world.refusal(limits=key, input_tokens=401, max_tokens=0)

    assert await world.probe.available() == world.sql.balance() == 900
    assert await world.probe.number("pend") == 0
    assert "has $0.0000004 left" in error.message


async def test_ledger_that_dies_before_it_acknowledges_doubles_nothing(
    world: MeteringWorld,
) -> None:
    """SQL has the calls, the stream has them still: afterwards each has counted once."""
    world.sql.put(balance=1000, credit=0)
    key = KeyLimits(budget_total_nanousd=500)
    for _ in range(3):
        await world.run(Usage(input=20), limits=key, input_tokens=20, max_tokens=0)

    await world.ledger.book(acknowledge=False)
    await world.ledger.book()
    left = await world.refusal(limits=key, input_tokens=441, max_tokens=0)

    assert await world.probe.available() == world.sql.balance() == 940
    assert "has $0.00000044 left" in left.message


async def test_call_settled_twice_is_charged_once(world: MeteringWorld) -> None:
    """A second settlement is ignored in Redis, or later by the ledger."""
    world.sql.put(balance=1000, credit=0)
    held = await world.reserve(input_tokens=100, max_tokens=0)

    event = await world.worker.settle(held, Usage(input=70))
    await world.worker.settle(held, Usage(input=70))
    both = await world.probe.available(), len(await world.probe.waiting())
    await world.ledger.book()
    await world.metering.journal.append(event)
    await world.ledger.book()

    assert both == (930, 1)
    assert await world.probe.available() == world.sql.balance() == 930
    assert await world.probe.leftovers() == []


async def test_call_reserved_twice_is_held_once(world: MeteringWorld) -> None:
    """Repeating a reservation whose reply was lost takes no second hold."""
    world.sql.put(limits=Limits(concurrency=1))
    ask = ask_for("req_twice")

    await world.worker.reserve(ask)
    again = await world.worker.reserve(ask)

    assert await world.probe.held() == (1, 30)
    await world.worker.settle(again)
    assert await world.probe.leftovers() == []


async def test_event_of_a_call_that_held_nothing_is_charged(world: MeteringWorld) -> None:
    """Calls without admission are journalled the same way."""
    world.sql.put(balance=100, credit=0)
    await world.run()

    await world.metering.journal.append(event_for(ask_for(), Usage(input=9)))

    assert await world.probe.available() == 91


async def test_cancelled_reservation_leaves_nothing(world: MeteringWorld) -> None:
    """Cancelling a reservation during the script releases what it took."""
    world.sql.put(limits=Limits(concurrency=1))
    await world.run()

    for _ in range(3):
        asking = asyncio.create_task(world.reserve())
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await world.run()

    assert await world.probe.leftovers() == []
    assert await world.probe.leases() == 0


async def test_hold_follows_what_a_key_really_gets(world: MeteringWorld) -> None:
    """After twenty short responses a call that asks for 100 tokens holds for few."""
    world.sql.put()
    first = await world.reserve(input_tokens=10, max_tokens=100)
    await world.worker.settle(first, Usage(input=10, output=5))
    for _ in range(20):
        await world.run(Usage(input=10, output=4, reasoning=2), input_tokens=10, max_tokens=100)

    later = await world.reserve(input_tokens=10, max_tokens=100)

    assert first.hold_nanousd == 110
    assert later.hold_nanousd == 16


async def test_account_in_use_is_compared_with_sql_now_and_then(world: MeteringWorld) -> None:
    """A running account is reloaded from SQL after ten minutes, without delaying calls."""
    world.sql.put(balance=100, credit=0)
    await world.run()
    world.sql.put(balance=7000, credit=0)
    world.clock.now_ms += 599_000
    await world.run()
    assert world.sql.loads == 1

    world.clock.now_ms += 2000
    await world.run()
    await asyncio.gather(*world.metering.accounts._loads.values())
    await world.run()

    assert world.sql.loads == 2
    assert await world.probe.number("base") == 7000


async def test_stored_entries_of_other_shards_are_acknowledged_apart(world: MeteringWorld) -> None:
    """Accounts live in different shards; no script touches two."""
    for account in ("acct_1", "acct_2", "acct_3"):
        world.sql.put(account, balance=100, credit=0)
        await world.run(Usage(input=7), account_id=account)

    assert await world.ledger.book() == 3

    assert await world.probe.available() == 93
    keys = await world.probe.client.keys(f"{world.ledger.reader._dead[:-10]}*")
    assert sum(b"a:acct_" in key for key in keys) == 3


async def test_reader_without_the_script_loads_it(world: MeteringWorld) -> None:
    """A Redis that was restarted has forgotten the ledger's script."""
    world.sql.put(balance=100, credit=0)
    await world.run(Usage(input=7))
    await world.probe.client.script_flush()

    assert await world.ledger.book() == 1
    assert await world.probe.available() == 93


BUDGET = KeyLimits(budget_month_nanousd=500)


async def left_of_budget(world: MeteringWorld) -> int:
    """Return the rest of the key's budget of 500, from the refusal of a larger call."""
    with pytest.raises(GatewayError) as caught:
        await world.reserve(limits=BUDGET, input_tokens=501, max_tokens=0)
    assert caught.value.detail is not None
    return int(caught.value.detail.split("remaining=")[1].split()[0])


async def test_month_and_day_of_booked_calls_are_counted_once(world: MeteringWorld) -> None:
    """A booked call counts once in its day and month, before and after it reaches SQL."""
    world.sql.put()
    day = KeyLimits(budget_day_nanousd=30)
    other = {"limits": day, "key_id": "key_2", "max_tokens": 0}
    await world.run(Usage(input=20), input_tokens=20, **other)
    await world.run(Usage(input=5), limits=BUDGET, input_tokens=5, max_tokens=0)
    await world.ledger.book()
    await world.run(Usage(input=5), limits=BUDGET, input_tokens=5, max_tokens=0)
    await world.ledger.book()
    left = await left_of_budget(world)

    world.clock.now_ms += 86_400_000
    await world.run(Usage(input=30), input_tokens=30, **other)

    assert left == 490
    assert await left_of_budget(world) == 490


async def test_call_in_sql_before_its_budget_is_read_counts_once(world: MeteringWorld) -> None:
    """The ledger has committed and not acknowledged yet when the spending is loaded."""
    world.sql.put()
    event = await world.worker.settle(await world.reserve(), Usage(input=70))
    await world.ledger.reader.ensure_group()
    entries = await world.ledger.reader.read_new(None)
    world.sql.book(event)
    assert await left_of_budget(world) == 430

    state = world.sql.accounts["acct_1"]
    newest = {"acct_1": Position(state.position, state.balance_nanousd)}
    await world.ledger.reader.acknowledge(entries, newest)

    assert await left_of_budget(world) == 430


async def test_event_delivered_after_it_was_booked_is_not_spent_again(world: MeteringWorld) -> None:
    """A late repetition counts until SQL drops it, and then no more, in budgets too."""
    world.sql.put()
    held = await world.reserve(limits=BUDGET)
    event = await world.worker.settle(held, Usage(input=70))
    await world.ledger.book()

    await world.metering.journal.append(event)
    during = await left_of_budget(world)
    await world.ledger.book()

    assert during == 360
    assert await left_of_budget(world) == 430


async def test_batches_acknowledged_in_the_wrong_order_leave_the_newest_balance(
    world: MeteringWorld,
) -> None:
    """Two ledger writers: the slower one brings an older balance, which is not taken."""
    world.sql.put(balance=1000, credit=0)
    reader = world.ledger.reader
    await reader.ensure_group()
    batches = []
    for cost in (100, 20):
        event = await world.worker.settle(await world.reserve(), Usage(input=cost))
        entries = await reader.read_new(None)
        world.sql.book(event)
        state = world.sql.accounts["acct_1"]
        batches.append((entries, {"acct_1": Position(state.position, state.balance_nanousd)}))

    for entries, newest in reversed(batches):
        await reader.acknowledge(entries, newest)

    assert await world.probe.available() == world.sql.balance() == 880


async def test_fallback_replaces_what_its_call_holds_for_the_first_model(
    world: MeteringWorld,
) -> None:
    """The release of the first model was lost: nothing is held twice, nor by the wrong sum."""
    world.sql.put(limits=Limits(concurrency=1))
    other = msgspec.structs.replace(MODEL, name="other")
    await world.worker.reserve(ask_for("req_f", max_tokens=20))

    fallback = await world.worker.reserve(ask_for("req_f", max_tokens=50, model=other))

    assert await world.probe.held() == (1, fallback.hold_nanousd)
    assert await world.probe.leases() == 1
    await world.worker.settle(fallback, Usage(input=9))
    assert await world.probe.leftovers() == []

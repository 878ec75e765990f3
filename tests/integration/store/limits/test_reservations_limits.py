"""Every limit against a real Valkey: who is admitted, who is refused, what is said."""

from __future__ import annotations

import pytest

from gateway.core.limits import KeyLimits, Limits, Room
from gateway.core.model import Usage, Wire
from gateway.errors import ErrorKind
from gateway.store.accounts.snapshot import SpendScope
from tests.support.metering import MeteringWorld

pytestmark = pytest.mark.redis
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("account", "key", "whose"),
    [
        (Limits(rpm=3), None, "this account"),
        (Limits(), KeyLimits(rpm=3), "this API key"),
        (
            Limits(rpm=100),
            KeyLimits(rpm=50, models={"m": Limits(rpm=3)}),
            "this API key for the model 'm'",
        ),
    ],
)
async def test_requests_a_minute_are_exact_in_every_scope(
    world: MeteringWorld, account: Limits, key: KeyLimits | None, whose: str
) -> None:
    """Three at once, then one every 20 seconds; the refusal says when."""
    world.sql.put(limits=account)
    rooms = [(await world.reserve(limits=key)).headroom.requests for _ in range(3)]

    error = await world.refusal(limits=key)
    world.clock.now_ms += 19_999
    early = await world.refusal(limits=key)
    world.clock.now_ms += 1
    await world.reserve(limits=key)

    assert rooms == [Room(3, 2, 20_000), Room(3, 1, 40_000), Room(3, 0, 60_000)]
    assert error.kind is ErrorKind.RATE_LIMITED
    assert error.message == (
        f"The limit of 3 requests per minute of {whose} is reached: 0 left, 1 requested. "
        "Try again in 20 s."
    )
    assert (error.retry_after_s, early.retry_after_s) == (20.0, 0.001)
    assert dict(error.headers)[b"x-ratelimit-remaining-requests"] == b"0"
    assert dict(error.headers)[b"x-ratelimit-reset-requests"] == b"1m0s"


async def test_limit_of_a_model_leaves_other_models_alone(world: MeteringWorld) -> None:
    """Calls of other models do not count towards the limit of one model."""
    world.sql.put()
    limits = KeyLimits(models={"other": Limits(rpm=1)})

    for _ in range(3):
        await world.reserve(limits=limits)


async def test_tokens_a_minute_are_taken_by_estimate_and_settled_by_use(
    world: MeteringWorld,
) -> None:
    """What was not used is given back at the end; what was used beyond is made up for."""
    world.sql.put()
    key = KeyLimits(tpm=100)
    first = await world.reserve(limits=key, input_tokens=40, max_tokens=20)
    second = await world.reserve(limits=key, input_tokens=20, max_tokens=20)
    error = await world.refusal(limits=key, input_tokens=5, max_tokens=0)

    await world.worker.settle(first, Usage(input=40, cache_read=5))
    third = await world.reserve(limits=key, input_tokens=15, max_tokens=0)
    await world.worker.settle(second, Usage(input=20, output=60))
    late = await world.refusal(limits=key, input_tokens=1, max_tokens=0)

    assert second.headroom.tokens == Room(100, 0, 60_000)
    assert error.message.startswith("The limit of 100 tokens per minute of this API key is reached")
    assert error.retry_after_s == 3.0
    assert third.headroom.tokens == Room(100, 0, 60_000)
    assert late.retry_after_s == 24.6  # 40 beyond the limit and 1, at 100 a minute


async def test_call_larger_than_its_tokens_a_minute_is_admitted_when_nothing_else_was(
    world: MeteringWorld,
) -> None:
    """A call above the limit of tokens per minute is admitted if none were used."""
    world.sql.put()
    key = KeyLimits(tpm=10)

    held = await world.reserve(limits=key, input_tokens=500, max_tokens=0)
    await world.worker.settle(held, Usage(input=30))
    error = await world.refusal(limits=key, input_tokens=500, max_tokens=0)

    assert error.retry_after_s == 180.0


async def test_concurrency_counts_calls_to_their_end(world: MeteringWorld) -> None:
    """A slot is free as soon as its call is settled, and not before."""
    world.sql.put(limits=Limits(concurrency=2))
    key = KeyLimits(concurrency=1)
    running = await world.reserve(limits=key)

    error = await world.refusal(limits=key)
    other = await world.reserve(key_id="key_2")
    third = await world.refusal(key_id="key_2")
    await world.worker.settle(running)
    await world.reserve(limits=key)

    assert error.message.startswith("The limit of 1 concurrent calls of this API key is reached")
    assert error.retry_after_s == 1.0
    assert third.message.startswith("The limit of 2 concurrent calls of this account is reached")
    await world.worker.settle(other)


async def test_refused_call_takes_nothing_of_any_limit(world: MeteringWorld) -> None:
    """If the last limit refuses, the others are unchanged."""
    world.sql.put(balance=1000, credit=0, limits=Limits(rpm=10, tpm=1000, concurrency=5))
    key = KeyLimits(rpm=1)
    await world.reserve(limits=key)
    before = await world.probe.client.hgetall(world.probe.key)

    await world.refusal(limits=key)

    assert await world.probe.client.hgetall(world.probe.key) == before
    assert await world.probe.leases() == 1


async def test_daily_budget_ends_at_midnight_utc(world: MeteringWorld) -> None:
    """What was spent and what is held count; the refusal says when the next day begins."""
    world.sql.put()
    key = KeyLimits(budget_day_nanousd=100)
    await world.run(Usage(input=60), limits=key, input_tokens=80, max_tokens=0)
    held = await world.reserve(limits=key, input_tokens=30, max_tokens=0)

    error = await world.refusal(limits=key, input_tokens=11, max_tokens=0)
    world.clock.now_ms += 12 * HOUR_MS - 1
    await world.refusal(limits=key, input_tokens=11, max_tokens=0)
    world.clock.now_ms += 1
    await world.reserve(limits=key, input_tokens=70, max_tokens=0)
    again = await world.refusal(limits=key, input_tokens=1, max_tokens=0)

    assert error.kind is ErrorKind.BUDGET_SPENT
    assert error.message == (
        "The daily budget of $0.0000001 of this API key has $0.00000001 left; this call would hold "
        "$0.000000011. It resets in 12 h."
    )
    assert error.retry_after_s == 12 * 3600
    assert again.retry_after_s == 24 * 3600
    await world.worker.settle(held, Usage(), at_ms=world.clock.now_ms)


async def test_monthly_and_total_budgets_outlive_the_day(world: MeteringWorld) -> None:
    """The month ends with May; what is spent in total never comes back."""
    world.sql.put(limits=Limits(budget_month_nanousd=100, budget_total_nanousd=150))
    await world.run(Usage(input=95), input_tokens=95, max_tokens=0)
    world.clock.now_ms += 24 * HOUR_MS

    month = await world.refusal(input_tokens=6, max_tokens=0)
    world.clock.now_ms += 14 * 24 * HOUR_MS  # 1 June, noon
    await world.run(
        Usage(input=50),
        input_tokens=50,
        max_tokens=0,
    )
    total = await world.refusal(input_tokens=6, max_tokens=0)

    assert month.message.startswith("The monthly budget of $0.0000001 of this account")
    assert month.retry_after_s == 13.5 * 24 * 3600
    assert total.message.startswith("The total budget of $0.00000015 of this account")
    assert total.retry_after_s is None


async def test_monthly_budget_that_is_loaded_in_the_next_month_is_whole(
    world: MeteringWorld,
) -> None:
    """SQL is asked for the spending of the month of the load."""
    world.sql.put()
    key = KeyLimits(budget_month_nanousd=100)
    await world.run(Usage(input=100), limits=key, input_tokens=100, max_tokens=0)
    await world.ledger.book()

    world.clock.now_ms += 15 * 24 * HOUR_MS
    await world.metering.accounts.load("acct_1", [SpendScope("key_1")])
    held = await world.reserve(limits=key, input_tokens=100, max_tokens=0)
    await world.worker.settle(held, Usage(input=30), at_ms=world.clock.now_ms)

    error = await world.refusal(limits=key, input_tokens=71, max_tokens=0)
    assert "has $0.00000007 left" in error.message


async def test_budget_counts_what_was_spent_before_it_was_set(world: MeteringWorld) -> None:
    """SQL knows, whether or not the call is booked yet."""
    world.sql.put()
    await world.run(Usage(input=40), input_tokens=40, max_tokens=0)
    await world.ledger.book()
    await world.run(Usage(input=30), input_tokens=40, max_tokens=0)
    key = KeyLimits(budget_total_nanousd=100, models={"m": Limits(budget_day_nanousd=90)})

    held = await world.reserve(limits=key, input_tokens=20, max_tokens=0)
    await world.worker.settle(held, Usage(input=20))
    await world.ledger.book()
    error = await world.refusal(limits=key, input_tokens=1, max_tokens=0)

    assert error.message.startswith("The daily budget of $0.00000009 of this API key for the model")


async def test_budget_counts_calls_that_end_while_its_spending_is_loaded_again(
    world: MeteringWorld,
) -> None:
    """After a second delivery the spending comes from SQL, which does not have the latest calls."""
    key = KeyLimits(budget_day_nanousd=100)
    world.sql.put()
    await world.run(limits=key, max_tokens=5)  # free, so that nothing waits for SQL
    running = await world.reserve(limits=key)
    await world.ledger.book(acknowledge=False)
    await world.ledger.book()

    await world.worker.settle(running, Usage(input=80))

    error = await world.refusal(limits=key, max_tokens=11)
    assert error.kind is ErrorKind.BUDGET_SPENT
    assert "has $0.00000002 left" in error.message
    await world.run(Usage(input=10), limits=key, max_tokens=10)
    await world.ledger.book()
    left = await world.refusal(limits=key, input_tokens=1, max_tokens=10)
    assert "has $0.00000001 left" in left.message


async def test_anthropic_clients_are_told_in_their_dialect(world: MeteringWorld) -> None:
    """The headers of a refusal are those of the client's wire."""
    world.sql.put(limits=Limits(rpm=1))
    await world.reserve(wire=Wire.ANTHROPIC)

    error = await world.refusal(wire=Wire.ANTHROPIC)

    assert dict(error.headers)[b"anthropic-ratelimit-requests-remaining"] == b"0"

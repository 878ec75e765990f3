"""What the running calls of an account may cost at most, by the scripts in a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from gateway.core.model import Model, Prices, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation
from gateway.settings import Money
from gateway.store.hot_state.redis_schema import pack
from tests.support.metering import MODEL, MeteringWorld, ask_for, event_for, reports

pytestmark = pytest.mark.redis
USD = 1_000_000_000
FLOOR, SHARE = USD, 0.1


def priced(name: str, given: str, taken: str, *, context: int = 200_000) -> Model:
    """Return a model of 64,000 tokens of output, at dollars per million tokens."""
    dear, dearer = int(float(given) * USD), int(float(taken) * USD)
    return Model(
        name=name, aliases=(), display_name=name, created=0, context=context, max_output=64_000,
        prices=Prices(dear, dearer, dear // 10, dear * 5 // 4, dearer), deployments=(),
    )  # fmt: skip


CHEAP = priced("cheap", "0.07", "0.14")
OAI = priced("oai", "1", "10")
DEAR = priced("dear", "5", "25")
FREE = priced("free", "0", "0")


async def burst(world: MeteringWorld, calls: int, **asked: object) -> list[Reservation]:
    """Start as many of these calls as are admitted."""
    asks = [ask_for(**asked) for _ in range(calls)]  # type: ignore[arg-type]
    done = await asyncio.gather(*map(world.worker.reserve, asks), return_exceptions=True)
    return [each for each in done if isinstance(each, Reservation)]


async def cost_all(world: MeteringWorld, running: list[Reservation]) -> None:
    """End calls at what they can cost at most."""
    for held in running:
        await world.worker.settle(held, cost_nanousd=held.worst_nanousd)
    await world.ledger.book()


@pytest.mark.parametrize(
    ("funds", "asked"),
    [
        (USD // 100, {"max_tokens": None}),
        (USD, {"max_tokens": 64_000}),
        (USD, {"max_tokens": 4000, "choices": 16}),
        (USD, {"max_tokens": 0}),
        (USD, {"max_tokens": 10, "choices": 10**12}),
        (USD, {"max_tokens": 1, "input_tokens": 3}),
        (100 * USD, {"max_tokens": 64_000, "choices": 3}),
    ],
)
async def test_burst_ends_within_the_bound(
    world: MeteringWorld, funds: int, asked: dict[str, object]
) -> None:
    """Also after forty calls of one token have taught the smallest hold."""
    world.sql.put(balance=funds, credit=0)
    for _ in range(40):
        held = await world.worker.reserve(ask_for(model=OAI, max_tokens=9, input_bound=100))
        await world.worker.settle(held, Usage(output=1), cost_nanousd=0)

    await cost_all(world, await burst(world, 300, model=OAI, **asked))

    assert world.sql.balance() >= -max(FLOOR, int(SHARE * funds))
    assert await world.probe.leftovers() == []


async def test_call_that_fits_when_another_has_ended_may_be_tried_again(
    world: MeteringWorld,
) -> None:
    """The refusal names the possible cost and the remedy; alone the call is admitted."""
    world.sql.put(balance=USD, credit=0)
    asked = {"model": DEAR, "max_tokens": 64_000, "input_bound": 5000}
    first = await world.worker.reserve(ask_for(**asked))  # type: ignore[arg-type]

    error = await world.refusal(ask_for(**asked))  # type: ignore[arg-type]
    await world.worker.settle(first, cost_nanousd=1000)
    await world.worker.reserve(ask_for(**asked))  # type: ignore[arg-type]

    assert (error.kind, error.retry_after_s) == (ErrorKind.RATE_LIMITED, 1.0)
    assert error.message == (
        "Running calls may use up the account's credit: this call may cost up to $1.63125, given "
        "its max_tokens, its number of choices and its input; they leave $0.36875 for it. Try "
        "again when one has ended, lower max_tokens, or add credit at "
        "http://127.0.0.1:8080/app/credits."
    )


async def test_call_that_fits_by_no_waiting_is_refused_for_want_of_credit(
    world: MeteringWorld,
) -> None:
    """The error asks for a lower `max_tokens` or more credit, and for no retry."""
    world.sql.put(balance=USD // 2, credit=0)

    error = await world.refusal(model=DEAR, max_tokens=64_000, input_bound=5000)
    await world.reserve(model=DEAR, max_tokens=50_000, input_bound=5000)

    assert (error.kind, error.retry_after_s) == (ErrorKind.NO_CREDIT, None)
    assert error.message == (
        "Not enough credit: this call may cost up to $1.63125, given its max_tokens, its number of "
        "choices and its input; the account's credit of $0.50 covers $1.50. Lower max_tokens, or "
        "add credit at http://127.0.0.1:8080/app/credits."
    )


async def test_small_balance_runs_eight_priced_calls_at_a_time(world: MeteringWorld) -> None:
    """And any number of free ones; from a dollar on the worst cases alone count."""
    world.sql.put(balance=USD - 1, credit=0)
    few = {"model": CHEAP, "max_tokens": 100, "input_bound": 100}

    running = await burst(world, 20, **few)
    error = await world.refusal(ask_for(**few))  # type: ignore[arg-type]
    free = await burst(world, 20, model=FREE)
    world.sql.credit("acct_1", 1)
    await world.metering.accounts.refresh("acct_1")
    more = await burst(world, 20, **few)

    assert (len(running), len(free), len(more)) == (8, 20, 20)
    assert (error.kind, error.retry_after_s) == (ErrorKind.RATE_LIMITED, 1.0)
    assert error.message.startswith("With its current credit, this account may run 8 calls at a")


@pytest.mark.parametrize("balance", [0, -5])
async def test_without_funds_only_free_models_are_served(
    world: MeteringWorld, balance: int
) -> None:
    """A priced call is refused even if its hold would be zero."""
    world.sql.put(balance=balance, credit=0)

    await world.reserve(model=FREE, max_tokens=None)
    error = await world.refusal(model=MODEL, input_tokens=0, max_tokens=0)

    assert error.kind is ErrorKind.NO_CREDIT


@pytest.mark.parametrize(
    "terms", [{"balance": USD, "credit": 0, "trusted": True}, {"balance": 0, "credit": None}]
)
async def test_trusted_and_unlimited_accounts_are_not_bounded(
    world: MeteringWorld, terms: dict[str, object]
) -> None:
    """Their holds alone count; a renewal does not enter their worst cases either."""
    world.sql.put(**terms)  # type: ignore[arg-type]

    running = await burst(world, 60, model=OAI, max_tokens=64_000)
    await world.metering.running.renew()

    assert len(running) == 60
    assert await world.probe.number("w") == await world.probe.number("h")


async def test_credit_limit_is_bounded_as_a_balance_is(world: MeteringWorld) -> None:
    """A postpaid account ends at most a dollar below its limit."""
    world.sql.put(balance=0, credit=2 * USD)

    await cost_all(world, await burst(world, 100, model=OAI, max_tokens=64_000))

    assert -3 * USD <= world.sql.balance() < -2 * USD


async def test_trust_that_is_taken_away_counts_from_the_next_call(world: MeteringWorld) -> None:
    """A change of the flag is in effect for the next call."""
    world.sql.put(balance=USD, credit=0, trusted=True)
    await burst(world, 9, model=OAI, max_tokens=64_000)
    world.sql.put(balance=USD, credit=0)
    await world.metering.accounts.refresh("acct_1")

    error = await world.refusal(model=OAI, max_tokens=640_000, choices=4)

    assert error.kind is ErrorKind.NO_CREDIT


async def test_hold_that_grows_leaves_the_worst_case_as_it_is(world: MeteringWorld) -> None:
    """Unless the call costs more than it should be able to."""
    world.sql.put(balance=10 * USD, credit=0)
    held = await world.reserve(model=OAI, max_tokens=50_000, input_bound=1000)
    before, worst = held.hold_nanousd, held.worst_nanousd

    seen = []
    for cost in (before, worst - 1, 3 * worst):
        reports(held, event_for(held.request, cost_nanousd=cost))
        await world.metering.running.renew()
        seen.append((await world.probe.number("h"), await world.probe.number("w")))
    await world.worker.settle(held)

    assert seen == [
        (before * 3 // 2, worst), (worst, worst), (worst * 9 // 2, worst * 9 // 2),
    ]  # fmt: skip
    assert await world.probe.leftovers() == []


async def test_record_of_an_earlier_version_is_read_and_leaves_nothing(
    world: MeteringWorld,
) -> None:
    """It has no worst case and has added none; its sweep and its renewal take none off."""
    world.sql.put(balance=10 * USD, credit=0)
    old = await world.reserve(model=OAI, max_tokens=1000)
    new = await world.reserve(model=OAI, max_tokens=1000)
    name = old.request.request_id
    stored: Any = await world.probe.client.hget(world.probe.names.calls, name)
    record = msgspec.msgpack.decode(stored)
    await world.probe.client.hset(world.probe.names.calls, name, pack(record[:9]))
    await world.probe.client.hincrby(world.probe.key, "w", -record[9])
    before = await world.probe.number("w")

    await world.metering.running.renew()
    renewed = await world.probe.number("w")
    await world.worker.settle(old)
    one = await world.probe.number("w")
    await world.worker.settle(new)

    assert (before, renewed, one) == (
        new.worst_nanousd, old.worst_nanousd + new.worst_nanousd, new.worst_nanousd
    )  # fmt: skip
    assert await world.probe.leftovers() == []


async def test_sum_that_is_wrong_is_right_again_without_calls(world: MeteringWorld) -> None:
    """The last settlement resets a wrong sum of worst cases to zero."""
    world.sql.put(balance=10 * USD, credit=0)
    held = await world.reserve(model=OAI)
    await world.probe.client.hincrby(world.probe.key, "w", 5 * USD)

    await world.worker.settle(held)

    assert await world.probe.number("w") == 0


@pytest.mark.parametrize("model", [CHEAP, OAI, DEAR], ids=lambda model: model.name)
async def test_agent_with_two_dollars_is_not_refused(world: MeteringWorld, model: Model) -> None:
    """64,000 tokens asked for, 500 used, a title beside it, the context growing to 100 KB."""
    world.sql.put(balance=2 * USD, credit=0)
    for turn in range(30):
        size = 2000 + turn * 3300
        main = ask_for(
            model=model, max_tokens=64_000, input_tokens=size // 4, input_bound=size + 1024
        )
        title = ask_for(model=CHEAP, max_tokens=64_000, input_tokens=200, input_bound=1800)
        running = await asyncio.gather(world.worker.reserve(main), world.worker.reserve(title))
        for held in running:
            await world.worker.settle(held, Usage(cache_read=size // 4, output=500))
        await world.ledger.book()

    assert world.sql.balance() > 0


async def test_others_do_not_raise_the_hold_of_a_new_key(world: MeteringWorld) -> None:
    """Other keys' calls may lower the hold of a new key, never raise it."""
    world.sql.put("rich")
    for number in range(40):
        held = await world.reserve(account_id="rich", key_id="rich", model=OAI, max_tokens=32_000)
        await world.worker.settle(held, Usage(output=20_000 if number < 30 else 10))

    world.sql.put(balance=USD // 5, credit=0)
    held = await world.reserve(model=OAI, max_tokens=None, input_tokens=2)

    assert held.hold_nanousd == 10_242_000


STEP = st.sampled_from(["start", "start", "start", "end", "renew", "sweep", "book", "top up"])


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    funds=st.sampled_from([1, USD // 100, USD, 3 * USD, 50 * USD]),
    floor=st.sampled_from([0, 1]),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    steps=st.lists(STEP, min_size=5, max_size=60),
)
def test_no_story_ends_below_the_bound(
    valkey_url: str, tmp_path_factory: pytest.TempPathFactory,
    seed: int, funds: int, floor: int, share: float, steps: list[str],
) -> None:  # fmt: skip
    """Bursts, choices, taught holds, renewals, dead workers, and any cost up to the worst case."""
    money = Money(exposure_floor=str(floor), exposure_share=share, small_concurrency=30)
    home = tmp_path_factory.mktemp("story")

    async def play() -> None:
        world = MeteringWorld(valkey_url, home, money=money)
        await world.worker.start()
        try:
            await Story(world, random.Random(seed), funds, floor * USD, share).play(steps)
        finally:
            await world.close()

    asyncio.run(play())


class Story:
    """Plays steps and knows how far the account may fall."""

    def __init__(
        self, world: MeteringWorld, chance: random.Random, funds: int, floor: int, share: float
    ) -> None:
        self.world, self.chance, self.funds = world, chance, funds
        self.floor, self.share = floor, share
        self.most_debt = 0
        self.running: list[Reservation] = []
        world.sql.put(balance=funds, credit=0)

    async def play(self, steps: list[str]) -> None:
        for step in itertools.chain(steps, ["finish"]):
            await getattr(self, step.replace(" ", "_"))()
            assert self.funds >= -self.most_debt
            assert await self.world.probe.number("w") == sum(
                held.worst_nanousd for held in self.running
            )
        assert self.world.sql.balance() == self.funds
        assert await self.world.probe.leftovers() == []

    async def start(self) -> None:
        chance = self.chance
        model = chance.choice([CHEAP, OAI, DEAR, MODEL, FREE])
        for _ in range(chance.randint(1, 12)):
            ask = ask_for(
                model=model, max_tokens=chance.choice([None, 0, 1, 500, 64_000, 10**7]),
                choices=chance.choice([1, 1, 2, 16]), input_tokens=chance.randint(1, 3000),
                input_bound=chance.choice([None, 5000]),
            )  # fmt: skip
            try:
                held = await self.world.worker.reserve(ask)
            except GatewayError as error:
                assert error.kind in (ErrorKind.NO_CREDIT, ErrorKind.RATE_LIMITED)
            else:
                self.running.append(held)
                if held.worst_nanousd:  # a free call is admitted whatever the funds
                    self.most_debt = max(self.floor, int(self.share * self.funds))

    def cost(self, held: Reservation) -> int:
        most = held.worst_nanousd
        return self.chance.choice([0, most // 1000, self.chance.randint(0, most), most, most])

    async def end(self) -> None:
        self.chance.shuffle(self.running)
        for held in self.running[: self.chance.randint(1, 8)]:
            self.running.remove(held)
            cost = self.cost(held)
            await self.world.worker.settle(
                held, Usage(output=self.chance.choice([1, 20_000])), cost_nanousd=cost
            )
            self.funds -= cost

    async def renew(self) -> None:
        for held in self.running:
            reports(held, event_for(held.request, cost_nanousd=self.cost(held)))
        await self.world.metering.running.renew()

    async def sweep(self) -> None:
        """Sweep the calls of a dead worker, which charges their last checkpoints."""
        if not self.running:
            return
        await self.renew()
        dead, self.running = self.running[::2], self.running[1::2]
        for held in dead:
            self.world.metering.running.discard(held.request.request_id)
        self.world.clock.now_ms += 20_000
        await self.world.metering.running.renew()
        self.world.clock.now_ms += 15_000
        await self.world.metering.sweeper.sweep()
        for held in dead:
            assert held.request.checkpoint is not None
            self.funds -= held.request.checkpoint().cost_nanousd

    async def book(self) -> None:
        await self.world.ledger.book()

    async def top_up(self) -> None:
        amount = self.chance.choice([1, USD])
        self.world.sql.credit("acct_1", amount)
        self.funds += amount
        await self.world.metering.accounts.refresh("acct_1")

    async def finish(self) -> None:
        """Everything that runs costs as much as it can."""
        for held in self.running:
            await self.world.worker.settle(held, cost_nanousd=held.worst_nanousd)
            self.funds -= held.worst_nanousd
        self.running.clear()
        await self.world.ledger.book()

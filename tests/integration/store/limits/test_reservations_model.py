"""The scripts in Redis against a model in Python, through any story."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core.calendar import DAY_MS, month_of
from gateway.core.limits import Bucket, KeyLimits, Limits, adjust, take
from gateway.core.model import Usage
from gateway.core.pricing import cost_nanousd, most_nanousd, token_count, worst_case_nanousd
from gateway.errors import GatewayError
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Money
from gateway.store.accounts.snapshot import SpendScope
from tests.support.metering import PRICES, MeteringWorld, ask_for, event_for

pytestmark = [pytest.mark.redis, pytest.mark.slow]
LEASE_MS = 30_000
LONG = "CAPIO_EXAMPLES" in os.environ
EXAMPLES = settings().max_examples if LONG else 25
FLOOR, SHARE, SMALL, SMALL_CONCURRENCY = 150, 0.25, 500, 3
MONEY = Money(
    exposure_floor="0.00000015", exposure_share=SHARE,
    small_balance="0.0000005", small_concurrency=SMALL_CONCURRENCY,
)  # fmt: skip
ACCOUNTS = {
    "acct_1": Limits(rpm=7, tpm=500, concurrency=4, budget_day_nanousd=300),
    "acct_2": Limits(budget_month_nanousd=900, concurrency=9),
}
KEYS = {
    "key_none": None,
    "key_rates": KeyLimits(rpm=5, tpm=130, models={"m": Limits(tpm=90, concurrency=2)}),
    "key_money": KeyLimits(
        budget_day_nanousd=120, budget_total_nanousd=400, models={"m": Limits(rpm=11)}
    ),
}


LIMIT_NAMES = [
    "credit", "budget_total", "budget_month", "budget_day", "concurrency",
    "requests_per_minute", "tokens_per_minute", "exposure", "small_balance",
]  # fmt: skip
"""In the order in which they refuse."""


class Asked(NamedTuple):
    """A call that asks for admission, and what it would take."""

    request: ReservationRequest
    scopes: list[Scope]
    hold: int
    worst: int
    tokens: int


class Scope:
    """The model of one scope."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = Bucket()
        self.tokens = Bucket()
        self.running = 0
        self.held = 0
        self.worst = 0
        self.spent: list[tuple[int, int]] = []

    def refusals(self, hold: int, tokens: int, now: int) -> list[int]:
        """Return the numbers of the limits that refuse."""
        limits = self.limits
        day, month = now // DAY_MS, month_of(now // DAY_MS)
        budgets = (
            (2, limits.budget_total_nanousd, sum(cost for _, cost in self.spent)),
            (
                3,
                limits.budget_month_nanousd,
                sum(cost for at, cost in self.spent if month_of(at // DAY_MS) == month),
            ),
            (
                4,
                limits.budget_day_nanousd,
                sum(cost for at, cost in self.spent if at // DAY_MS == day),
            ),
        )
        found = [
            number
            for number, budget, spent in budgets
            if budget is not None and hold > 0 and spent + self.held + hold > budget
        ]
        if limits.concurrency is not None and self.running >= limits.concurrency:
            found.append(5)
        if limits.rpm is not None and isinstance(take(self.requests, limits.rpm, 1, now), int):
            found.append(6)
        if limits.tpm is not None and isinstance(take(self.tokens, limits.tpm, tokens, now), int):
            found.append(7)
        return found

    def admit(self, hold: int, tokens: int, now: int) -> None:
        self.running += 1
        self.held += hold
        if self.limits.rpm is not None:
            after = take(self.requests, self.limits.rpm, 1, now)
            assert isinstance(after, Bucket)
            self.requests = after
        if self.limits.tpm is not None:
            after = take(self.tokens, self.limits.tpm, tokens, now)
            assert isinstance(after, Bucket)
            self.tokens = after

    def end(self, hold: int, taken: int, used: int, now: int) -> None:
        self.running -= 1
        self.held -= hold
        if self.limits.tpm is not None and used != min(taken, self.limits.tpm):
            surplus = used - min(taken, self.limits.tpm)
            self.tokens = adjust(self.tokens, self.limits.tpm, surplus, now)


class Story(RuleBasedStateMachine):
    """Anything may happen to two accounts and three keys of each."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = tempfile.TemporaryDirectory()
        self.world = self.run(self.open())
        self.credit = {"acct_1": 700, "acct_2": 3000}
        self.scopes: dict[tuple[str, ...], Scope] = {}
        self.calls: list[tuple[Reservation, int]] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def open(self) -> MeteringWorld:
        world = MeteringWorld(self.url, Path(self.home.name), money=MONEY)
        await world.worker.start()
        return world

    async def close(self) -> None:
        await self.world.close()

    def teardown(self) -> None:
        self.run(self.close())
        self.loop.close()
        self.home.cleanup()

    @initialize()
    def begin(self) -> None:
        self.world.sql.put("acct_1", balance=700, credit=0, limits=ACCOUNTS["acct_1"])
        self.world.sql.put("acct_2", balance=1000, credit=2000, limits=ACCOUNTS["acct_2"])

    def scopes_of(self, account: str, key: str) -> list[Scope]:
        """Return the model's scopes of a call: account, key, key with model."""
        limits = KEYS[key]
        named: list[tuple[tuple[str, ...], Limits]] = [((account,), ACCOUNTS[account])]
        if limits is not None:
            named.append(((account, key), limits))
            if "m" in limits.models:
                named.append(((account, key, "m"), limits.models["m"]))
        return [self.scopes.setdefault(name, Scope(each)) for name, each in named]

    def expected(
        self, scopes: list[Scope], account: str, hold: int, worst: int, tokens: int
    ) -> int | None:
        """Return which limit should refuse."""
        found = [n for scope in scopes for n in scope.refusals(hold, tokens, self.now)]
        funds = self.credit[account]
        left = funds - scopes[0].held
        if left < hold or left <= 0:
            found.append(1)
        if scopes[0].worst + worst > funds + max(FLOOR, funds // 4):
            found.append(8)
        if funds < SMALL and scopes[0].running >= SMALL_CONCURRENCY:
            found.append(9)
        return min(found, default=None)

    @property
    def now(self) -> int:
        return self.world.clock.now_ms

    @rule(
        account=st.sampled_from(sorted(ACCOUNTS)),
        key=st.sampled_from(sorted(KEYS)),
        given=st.integers(0, 60),
        longest=st.integers(1, 90),
        choices=st.integers(1, 3),
    )
    def reserve(self, account: str, key: str, given: int, longest: int, choices: int) -> None:
        asked = self.asked(account, key, given, longest, choices)
        self.expect([asked])

    @rule(
        asked=st.lists(
            st.tuples(
                st.sampled_from(sorted(ACCOUNTS)),
                st.sampled_from(sorted(KEYS)),
                st.integers(0, 60),
                st.integers(1, 90),
            ),
            min_size=2,
            max_size=9,
        )
    )
    def reserve_in_one_turn(self, asked: list[tuple[str, str, int, int]]) -> None:
        """Calls of one script are admitted in their order; none is refused for another's limit."""
        self.run(self.load_all())
        self.expect([self.asked(*each, 1) for each in asked])

    async def load_all(self) -> None:
        """Load what budgets need, so that no call asks SQL and then Redis again behind others."""
        accounts = self.world.metering.accounts
        for account in ACCOUNTS:
            names = [f"{account}_{key}" for key in KEYS]
            scopes = [SpendScope(), *map(SpendScope, names), *[SpendScope(n, "m") for n in names]]
            await accounts.load(account, scopes)
            accounts._asked[account] = math.inf

    def asked(self, account: str, key: str, given: int, longest: int, choices: int) -> Asked:
        """Return a call that asks for admission."""
        ask = ask_for(
            account_id=account, key_id=f"{account}_{key}", limits=KEYS[key], input_tokens=given,
            max_tokens=longest, choices=choices, input_bound=2 * given,
        )  # fmt: skip
        output = longest * choices
        hold, tokens = most_nanousd(given, output, PRICES), given + output
        worst = worst_case_nanousd(2 * given, max(longest, 64) * choices, PRICES)
        return Asked(ask, self.scopes_of(account, key), hold, worst, tokens)

    def expect(self, asked: list[Asked]) -> None:
        """Ask for all at once; each is admitted or refused as the model says."""
        wanted: list[int | None] = []
        for ask, scopes, hold, worst, tokens in asked:
            account = ask.principal.account_id
            wanted.append(self.expected(scopes, account, hold, worst, tokens))
            if wanted[-1] is None:
                for scope in scopes:
                    scope.admit(hold, tokens, self.now)
                    scope.worst += worst
        results = self.run(self.reserve_all([each.request for each in asked]))
        for each, refusal, result in zip(asked, wanted, results, strict=True):
            if isinstance(result, GatewayError):
                assert result.detail is not None
                shown = result.detail.split()[0].removeprefix("limit=")
                assert refusal == LIMIT_NAMES.index(shown) + 1
                continue
            assert refusal is None
            assert isinstance(result, Reservation), result
            taken = result.hold_nanousd, result.worst_nanousd, result.tokens
            assert taken == (each.hold, each.worst, each.tokens)
            self.calls.append((result, self.now + LEASE_MS))

    async def reserve_all(
        self, asks: list[ReservationRequest]
    ) -> list[Reservation | BaseException]:
        """Reserve for all in one turn of the loop."""
        work = [self.world.worker.reserve(ask) for ask in asks]
        return await asyncio.gather(*work, return_exceptions=True)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), given=st.integers(0, 90), output=st.integers(0, 90))
    def settle(self, data: st.DataObject, given: int, output: int) -> None:
        held, _ = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        usage = Usage(input=given, output=output)
        self.run(self.world.worker.settle(held, usage, at_ms=self.now, outcome="cancelled"))
        self.ended(held, usage)

    @precondition(lambda self: len(self.calls) > 1)
    @rule(output=st.integers(0, 90))
    def settle_in_one_turn(self, output: int) -> None:
        """Calls of one script are settled as if each had its own."""
        ended, self.calls = self.calls, []
        usage = Usage(input=5, output=output)
        self.run(self.settle_all([held for held, _ in ended], usage))
        for held, _ in ended:
            self.ended(held, usage)

    async def settle_all(self, calls: list[Reservation], usage: Usage) -> None:
        """Settle all in one turn of the loop."""
        metering = self.world.metering
        for held in calls:
            event = event_for(held.request, usage, at_ms=self.now, outcome="cancelled")
            await metering.reservations.settle(held, event)
        await metering.journal.settlements.drain()

    def ended(self, held: Reservation, usage: Usage) -> None:
        principal = held.request.principal
        account, key = principal.account_id, principal.key_id.split("_", 2)[2]
        cost = cost_nanousd(usage, PRICES)
        self.credit[account] -= cost
        for scope in self.scopes_of(account, key):
            scope.end(held.hold_nanousd, held.tokens, token_count(usage), self.now)
            scope.worst -= held.worst_nanousd
            scope.spent.append((self.now, cost))

    @rule(dies=st.booleans())
    def book(self, dies: bool) -> None:
        if dies:
            self.run(self.world.ledger.book(acknowledge=False))
        self.run(self.world.ledger.book())

    @rule(account=st.sampled_from(sorted(ACCOUNTS)), amount=st.integers(1, 500))
    def top_up(self, account: str, amount: int) -> None:
        self.world.sql.credit(account, amount)
        self.credit[account] += amount
        assert self.run(self.world.metering.accounts.refresh(account))

    @rule(passed_ms=st.one_of(st.integers(0, 20_000), st.integers(0, 15 * DAY_MS)))
    def wait(self, passed_ms: int) -> None:
        self.world.clock.now_ms += passed_ms

    @rule()
    def renew(self) -> None:
        self.run(self.world.metering.running.renew())
        self.calls = [(held, self.now + LEASE_MS) for held, _ in self.calls]

    @rule()
    def sweep(self) -> None:
        expired = [held for held, ends in self.calls if ends <= self.now]
        assert self.run(self.world.metering.sweeper.sweep()) == len(expired)
        self.calls = [(held, ends) for held, ends in self.calls if ends > self.now]
        for held in expired:
            self.world.metering.running.discard(held.request.request_id)
            self.ended(held, Usage())

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        for account in ACCOUNTS:
            scope = self.scopes.get((account,))
            if scope is None:
                continue
            names = self.world.metering.running._names.of(account)
            found = self.run(self.world.probe.client.hgetall(names.accounts + account.encode()))
            fields = {name.decode(): value for name, value in found.items()}
            assert int(fields.get("n", 0)) == scope.running
            assert int(fields.get("h", 0)) == scope.held
            assert int(fields.get("w", 0)) == scope.worst
            if "base" in fields:
                credit = int(fields["base"]) - int(fields.get("pend", 0)) + int(fields["cr"])
                assert credit == self.credit[account]

    @invariant()
    def nothing_is_left_without_calls(self) -> None:
        if not self.calls:
            assert all(
                scope.running == scope.held == scope.worst == 0 for scope in self.scopes.values()
            )
            assert len(self.world.metering.running) == 0


@pytest.mark.timeout(7200 if LONG else 120)
def test_any_story_ends_as_the_model_says(valkey_url: str) -> None:
    """Admissions, refusals, balances, slots and holds agree with the model after every step."""
    machine = type("StoryHere", (Story,), {"url": valkey_url})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

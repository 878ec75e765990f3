"""Redis that loses everything, or dies: nobody gets free credit, and nobody loses any."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Money
from gateway.store.redis.client import RedisLimits, RedisUnavailable
from gateway.store.spill.segments import segments
from tests.support.metering import (
    AccountProbe,
    FakeLedger,
    FakeSql,
    MeteringWorker,
    ask_for,
    event_for,
)
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
QUICK = RedisLimits(
    command_timeout_s=0.4, failures_to_open=2, cooldown_s=0.05, stall_s=0.8, backoff_longest_s=0.05
)
SEVEN = Usage(input=7)


class Pair:
    """Two workers with journals that run, one account of 1000 nano-dollars, one ledger."""

    def __init__(self, server: ValkeyProcess, home: Path, money: Money) -> None:
        self.server = server
        self.sql = FakeSql()
        self.sql.put(balance=1000, credit=0)
        self.workers = [
            MeteringWorker(server.url, self.sql, home / str(n), limits=QUICK, money=money)
            for n in range(2)
        ]
        self.ledger = FakeLedger(server.url, self.sql)
        self.probe = AccountProbe(server.url)
        self.home = home
        self.calls = 0

    async def start(self) -> None:
        for worker in self.workers:
            await worker.start()
            worker.metering.journal.start()

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        await self.ledger.close()
        await self.probe.close()

    async def call(self, count: int = 1) -> None:
        """Make whole calls of 7 nano-dollars each, by turns."""
        for _ in range(count):
            self.calls += 1
            worker = self.workers[self.calls % 2]
            held = await worker.reserve(ask_for(limits=KeyLimits(budget_total_nanousd=900)))
            await worker.settle(held, SEVEN)

    async def settled(self) -> None:
        """Wait until every call is booked, then check that Redis and the ledger agree."""

        async def all_booked() -> bool:
            await self.ledger.book()
            return len(self.sql.calls) == self.calls

        await wait_until(all_booked, 10)
        await wait_until(self.nothing_waits, 10)
        await self.workers[0].metering.accounts.refresh("acct_1")
        assert self.sql.balance() == 1000 - 7 * self.calls
        assert await self.probe.available() == self.sql.balance()
        assert await self.probe.leftovers() == []
        with pytest.raises(GatewayError) as caught:
            await self.workers[0].reserve(
                ask_for(
                    limits=KeyLimits(budget_total_nanousd=900),
                    input_tokens=901 - 7 * self.calls,
                    max_tokens=0,
                )
            )
        assert caught.value.kind is ErrorKind.BUDGET_SPENT
        assert f"remaining={900 - 7 * self.calls}" in (caught.value.detail or "")

    async def nothing_waits(self) -> bool:
        """Return whether the stream is empty and no file is left."""
        await self.ledger.book()
        files = [path for n in range(2) for path in segments(self.home / str(n) / "spill")]
        return not files and await self.probe.number("pend") == 0

    async def ready(self) -> None:
        """Wait until both workers have Redis again."""
        for worker in self.workers:

            async def answers(worker: MeteringWorker = worker) -> bool:
                with contextlib.suppress(RedisUnavailable):
                    return await worker.bus.command(b"PING") == b"PONG"
                return False

            await wait_until(answers)


@pytest.fixture(params=["kept", "lost"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """`kept`: with an append-only file; `lost`: a Redis that comes back empty."""
    kept = request.param == "kept"
    server = ValkeyProcess(*(("--appendfsync", "always") if kept else ()), persist=kept)
    server.start()
    pair = Pair(server, tmp_path, Money(degraded="open", degraded_share=1.0))
    await pair.start()
    yield pair
    await pair.close()
    server.close()


async def test_redis_killed_while_events_wait_keeps_the_books(pair: Pair) -> None:
    """Events that were only in the stream are appended again if it is gone."""
    await pair.call(5)
    await pair.ledger.book()
    await pair.call(5)

    pair.server.kill()
    pair.server.start()
    await pair.ready()
    await pair.call(5)

    await pair.settled()


async def test_redis_away_for_a_while_keeps_the_books(pair: Pair) -> None:
    """Calls of the outage are admitted by share, spilled, replayed and charged once."""
    await pair.call(4)
    await pair.ledger.book()
    await pair.call(2)

    pair.server.kill()
    await pair.call(6)
    pair.server.start()
    await pair.ready()
    await pair.call(3)

    await pair.settled()


async def test_redis_killed_while_calls_run_frees_every_slot_and_hold(pair: Pair) -> None:
    """Calls admitted before the outage are settled after it, also if Redis lost them."""
    first, second = pair.workers
    running = [await first.reserve(ask_for()), await second.reserve(ask_for())]
    await pair.call(2)

    pair.server.kill()
    pair.server.start()
    await pair.ready()
    for worker in pair.workers:
        await worker.metering.running.renew()
    held = await pair.probe.held()
    for worker, call in zip(pair.workers, running, strict=True):
        await worker.settle(call, SEVEN)
        pair.calls += 1

    assert held[0] == 2
    await pair.settled()


async def test_redis_that_hangs_in_a_settlement_charges_once(pair: Pair) -> None:
    """A command without a reply may have happened: it is repeated, and counts once."""
    await pair.call(2)
    running = [await pair.workers[0].reserve(ask_for()) for _ in range(5)]

    pair.server.pause()
    events = [event_for(call.request, SEVEN) for call in running]
    settle = pair.workers[0].metering.reservations.settle
    await asyncio.gather(*map(settle, running, events))
    pair.server.resume()
    pair.calls += 5
    await pair.ready()

    await pair.settled()


async def test_redis_that_hangs_in_an_admission_leaves_no_slot(pair: Pair) -> None:
    """The degraded call that Redis admitted after all is one call."""
    await pair.call(2)

    pair.server.pause()
    held = await pair.workers[0].reserve(ask_for())
    pair.server.resume()
    await pair.ready()
    await pair.workers[0].settle(held, SEVEN)
    pair.calls += 1

    assert held.degraded
    await pair.settled()


@pytest.fixture
async def flushed(tmp_path: Path) -> AsyncIterator[Pair]:
    """A Redis that is flushed by hand."""
    server = ValkeyProcess()
    server.start()
    pair = Pair(server, tmp_path, Money(degraded_share=0.25))
    await pair.start()
    yield pair
    await pair.close()
    server.close()


async def test_redis_flushed_while_events_wait_keeps_the_books(flushed: Pair) -> None:
    """The changed epoch shows the loss although no connection breaks."""
    await flushed.call(6)
    await flushed.ledger.book()
    await flushed.call(6)

    await flushed.probe.client.flushall()
    await flushed.call(6)

    await flushed.settled()


async def test_redis_flushed_while_the_ledger_books_keeps_the_books(flushed: Pair) -> None:
    """The batch is in SQL, its entries are gone: they are neither lost nor doubled."""
    await flushed.call(6)
    await flushed.ledger.book(acknowledge=False)
    await flushed.probe.client.flushall()
    await flushed.call(2)

    await flushed.settled()


async def test_redis_flushed_without_any_further_call_gets_the_events_again(flushed: Pair) -> None:
    """The running call of any worker brings the loss to light."""
    await flushed.call(4)
    running = [await worker.reserve(ask_for()) for worker in flushed.workers]
    await flushed.probe.client.flushall()

    for worker in flushed.workers:
        await worker.metering.running.renew()

    async def booked() -> bool:
        await flushed.ledger.book()
        return len(flushed.sql.calls) == 4

    await wait_until(booked)
    for worker, call in zip(flushed.workers, running, strict=True):
        await worker.settle(call, SEVEN)
        flushed.calls += 1
    await flushed.settled()


async def test_redis_flushed_and_first_told_of_the_same_call_is_known_to_be_another(
    flushed: Pair,
) -> None:
    """The other worker, which has not spoken since, still learns of the loss."""
    await flushed.call(2)  # the second worker's is the first
    await flushed.probe.client.flushall()
    again = [line for _, _, line in flushed.workers[1].metering.journal._recent]
    await flushed.workers[1].metering.journal._sender.send_lines(again)

    await flushed.settled()


async def test_redis_flushed_again_and_again_never_gives_credit(flushed: Pair) -> None:
    """However often it happens, the sum of all calls is what the account has paid."""
    for round_number in range(12):
        await flushed.call(3)
        if round_number % 3 == 1:
            await flushed.ledger.book(acknowledge=round_number % 2 == 0)
        if round_number % 2:
            await flushed.probe.client.flushall()

    await flushed.settled()


async def test_empty_redis_and_no_sql_degrades_and_recovers(flushed: Pair) -> None:
    """Nobody can say what the account has: a share of what was known last is served."""
    await flushed.call(2)
    flushed.sql.away = True
    await flushed.probe.client.flushall()

    held = await flushed.workers[0].reserve(ask_for())
    with pytest.raises(GatewayError) as refused:
        await flushed.workers[0].reserve(ask_for(input_tokens=500))
    flushed.sql.away = False
    await flushed.workers[0].settle(held, SEVEN)
    flushed.calls += 1

    assert held.degraded
    assert refused.value.kind is ErrorKind.STORE_UNAVAILABLE
    await flushed.settled()

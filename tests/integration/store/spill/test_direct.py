"""Usage that is booked in SQL without Redis: once, whatever else reaches SQL over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from gateway.core.limits import KeyLimits
from gateway.core.model import CallRecord, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import ReservationRequest
from gateway.settings import Settings, Sql
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.spill.direct import DirectBooking
from gateway.store.spill.replay import EventKeptError
from gateway.store.spill.segments import segments
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES
from gateway.store.usage.ledger_writer import LedgerWriter
from gateway.store.usage.reader import UsageReader
from gateway.telemetry.metrics import Metrics
from tests.support.metering import AccountProbe, MeteringWorker, ask_for
from tests.support.usage import encoded, stored_ids, usage_event
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

QUICK = RedisLimits(
    command_timeout_s=0.4, failures_to_open=2, cooldown_s=0.05, stall_s=0.8, backoff_longest_s=0.05
)
SEVEN = Usage(input=7)


@pytest.fixture
async def account(database: Database) -> Account:
    """One account with 1000 nano-dollars."""
    account = await Accounts(database).create("acme")
    await Credits(database).topup(account.id, 1000, Actor("test"))
    return account


@pytest.fixture
async def direct(database: Database) -> AsyncIterator[DirectBooking]:
    """One way around Redis."""
    direct = DirectBooking(database.transactions(), Metrics(CollectorRegistry()))
    yield direct
    await direct.aclose()


async def charges(database: Database, account: Account) -> tuple[int, int]:
    """Return how many charges an account has, and its balance."""
    async with database.read() as connection:
        query = sa.select(sa.func.count()).where(
            LEDGER_ENTRIES.c.account_id == account.id, LEDGER_ENTRIES.c.kind == "charge"
        )
        count = (await connection.execute(query)).scalar_one()
    balance = (await Accounts(database).get(account.id)).balance_nanousd
    return int(count), balance


async def test_events_are_booked_once_and_kept_for_redis(
    database: Database, account: Account, direct: DirectBooking
) -> None:
    """A repeated event charges nothing; each is owed to Redis."""
    lines = [
        encoded(usage_event(f"req_{n}", account_id=account.id, cost_nanousd=10)) for n in range(3)
    ]

    assert await direct.add(lines[:2])
    assert await direct.add(lines)

    assert await charges(database, account) == (3, 970)
    assert await stored_ids(database) == ["req_0", "req_1", "req_2"]
    assert list(direct.owed) == [*lines[:2], *lines]
    assert direct._metrics.usage_direct._value.get() == 3


async def test_event_that_sql_rejects_does_not_block_the_others(
    database: Database, account: Account, direct: DirectBooking
) -> None:
    """Lines without an event and charges of unknown accounts are reported after the rest."""
    good = encoded(usage_event("req_good", account_id=account.id, cost_nanousd=10))
    stray = encoded(usage_event("req_stray", account_id="acct_none", cost_nanousd=1))

    with pytest.raises(EventKeptError, match="no account acct_none"):
        await direct.add([stray, good])
    with pytest.raises(EventKeptError, match="not a usage event"):
        await direct.add([b"{", good])

    assert await charges(database, account) == (1, 990)
    assert good in direct.owed
    assert stray not in direct.owed


async def test_database_that_is_away_owes_redis_nothing(tmp_path: Path) -> None:
    """The failure is the store's, so that the segment stays."""
    away = Database(Settings(sql=Sql(url=f"postgresql://x@/x?host={tmp_path}")))
    direct = DirectBooking(away.transactions(), Metrics(CollectorRegistry()))

    with pytest.raises(GatewayError) as failure:
        await direct.add([encoded(usage_event())])
    await direct.aclose()

    assert failure.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert not direct.owed


class Outage:
    """A worker over a Redis that can be killed, a real ledger writer, and an account."""

    def __init__(self, home: Path, database: Database, account: Account, after_s: float) -> None:
        self.database = database
        self.account = account
        self.home = home
        self.server = ValkeyProcess(persist=True)
        self.url = self.server.start()
        self.worker = MeteringWorker(
            self.url,
            AccountRepository(database),
            home,
            limits=QUICK,
            database=database,
            book_directly_after_s=after_s,
        )
        self.probe = AccountProbe(self.url, account.id)

    async def start(self) -> None:
        await self.worker.start()
        self.worker.metering.journal.start()

    async def call(self) -> CallRecord:
        """Admit a call and settle it, both with Redis."""
        reservation = await self.worker.reserve(ask_for(account_id=self.account.id))
        return await self.worker.settle(reservation, SEVEN)

    async def drain(self, until: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Let a ledger writer store all that waits in Redis, and go on until something is true."""
        reader = UsageReader(cold_client(parse_address(self.url)), "capio:", claim_idle_ms=1)
        writer = LedgerWriter(reader, self.database, Metrics(CollectorRegistry()))
        stop = asyncio.Event()
        running = asyncio.create_task(writer.run(stop))
        await wait_until(self._is_drained, 15)
        if until is not None:
            await wait_until(until, 15)
        stop.set()
        await running
        await reader.aclose()

    async def charges(self) -> tuple[int, int]:
        return await charges(self.database, self.account)

    async def is_charged(self) -> bool:
        """Return whether SQL has a charge."""
        return await self.charges() == (1, 993)

    async def has_no_spending(self) -> bool:
        """Return whether Redis has no spending of the key in SQL."""
        return not await self.probe.client.hexists(self.probe.key, "bkkey_1")

    async def _is_drained(self) -> bool:
        return not await self.probe.waiting()

    async def close(self) -> None:
        await self.worker.close()
        await self.probe.close()
        self.server.close()


@pytest.mark.redis
async def test_outage_of_some_seconds_is_booked_without_redis(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """Redis dies in a call: SQL has it before Redis is back, which then has no hold left."""
    world = Outage(tmp_path, database, account, after_s=0.0)
    try:
        await world.start()
        reservation = await world.worker.reserve(ask_for(account_id=account.id))
        world.server.kill()
        await world.worker.settle(reservation, SEVEN)
        await wait_until(world.is_charged, 10)
        await wait_until(lambda: not segments(tmp_path / "spill"), 10)
        world.server.start()
        await wait_until(lambda: world.probe.leases_are(0), 10)
        await world.drain()

        assert await world.charges() == (1, 993)
        assert await world.probe.held() == (0, 0)
        assert await world.probe.available() == 993
    finally:
        await world.close()


@pytest.mark.redis
async def test_worker_that_ends_without_redis_leaves_nothing(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """What only Redis has and what is spilled is booked; Redis, when it is back, adds nothing."""
    world = Outage(tmp_path, database, account, after_s=3600.0)
    try:
        await world.start()
        await world.call()
        reservation = await world.worker.reserve(ask_for(account_id=account.id))
        world.server.kill()
        await world.worker.settle(reservation, SEVEN)
        before = await world.charges()
        await world.worker.metering.aclose()
        after = await world.charges()
        world.server.start()
        await world.drain()

        assert before == (0, 1000)
        assert after == (2, 986)
        assert segments(tmp_path / "spill") == []
        assert await world.charges() == (2, 986)
    finally:
        await world.close()


@pytest.mark.redis
async def test_budget_counts_the_calls_of_a_worker_that_ended_without_redis(
    database: Database, account: Account, tmp_path: Path
) -> None:
    """Of 20 nano-dollars 7 were spent over Redis and 7 without it: 10 more do not fit."""
    limits = KeyLimits(budget_total_nanousd=20)

    def ask() -> ReservationRequest:
        return ask_for(account_id=account.id, limits=limits, input_tokens=10, max_tokens=0)

    world = Outage(tmp_path / "first", database, account, after_s=3600.0)
    after = MeteringWorker(
        world.url, AccountRepository(database), tmp_path / "second", limits=QUICK, database=database
    )
    try:
        await world.start()
        await world.worker.settle(await world.worker.reserve(ask()), SEVEN)
        await world.drain(until=world.is_charged)
        world.server.kill()
        await world.worker.settle(await world.worker.reserve(ask()), SEVEN)
        await world.worker.metering.aclose()
        world.server.start()
        await after.start()
        await world.drain(until=world.has_no_spending)
        with pytest.raises(GatewayError) as refused:
            await after.reserve(ask())

        assert await world.charges() == (2, 986)
        assert refused.value.kind is ErrorKind.BUDGET_SPENT
    finally:
        await after.close()
        await world.close()

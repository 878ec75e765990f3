"""A worker's metering, the real ledger writer and a real database, together."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.errors import GatewayError
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.limits.account_loader import push_account
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.sql.database import Database
from gateway.store.usage.ledger_writer import LedgerWriter
from gateway.store.usage.reader import UsageReader
from gateway.telemetry.metrics import Metrics
from tests.support.metering import AccountProbe, MeteringWorker, ask_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


async def test_balance_in_redis_follows_the_ledger_to_the_nano_dollar(
    valkey_url: str, database: Database, tmp_path: Path
) -> None:
    """Top-ups, calls, an empty Redis and budgets: both stores agree when nothing waits."""
    prefix = f"{uuid.uuid4().hex}:"
    account = await Accounts(database).create("acme")
    worker = MeteringWorker(valkey_url, AccountRepository(database), tmp_path, prefix=prefix)
    probe = AccountProbe(valkey_url, account.id, prefix)
    reader = UsageReader(cold_client(parse_address(valkey_url)), prefix)
    metrics = Metrics(CollectorRegistry())
    writer = LedgerWriter(reader, database, metrics)
    stop = asyncio.Event()
    writing = asyncio.create_task(writer.run(stop))
    await worker.start()
    limits = KeyLimits(budget_total_nanousd=600)
    calls = 0

    async def call(cost: int) -> None:
        nonlocal calls
        held = await worker.reserve(ask_for(account_id=account.id, limits=limits))
        await worker.settle(held, Usage(input=cost))
        calls += 1

    async def booked() -> bool:
        status = await writer.status()
        return status.written_total == calls and status.stream_length == 0

    try:
        with pytest.raises(GatewayError):
            await call(1)
        await Credits(database).topup(account.id, 1000, SYSTEM)
        await push_account(probe.client, prefix, AccountRepository(database), account.id)
        for cost in (100, 0, 20):
            await call(cost)
        await wait_until(booked, 10)
        first = await probe.available()
        await probe.client.delete(probe.key)
        await call(30)
        await wait_until(booked, 10)
        with pytest.raises(GatewayError) as refused:
            held = ask_for(account_id=account.id, limits=limits, input_tokens=451, max_tokens=0)
            await worker.reserve(held)
        balance = (await Accounts(database).get(account.id)).balance_nanousd

        assert first == 880
        assert await probe.available() == balance == 850
        assert await probe.number("pend") == 0
        assert refused.value.detail is not None
        assert "remaining=450" in refused.value.detail
    finally:
        stop.set()
        await writing
        await reader.aclose()
        await worker.close()
        await probe.close()

"""Every script uses only keys that it declares: a cluster that moves a slot checks no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.core.stored_responses import Part
from gateway.settings import Responses
from gateway.store.hot_state.census import WorkerCensus
from gateway.store.redis import scripts
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.responses.records import ResponseRecords, response_scripts
from tests.support.metering import NOON_MS, PATIENT, MeteringWorld, ask_for

CHECK = b"""
local declared = {}
for _, key in ipairs(KEYS) do declared[key] = true end
local server = redis
local function checked(run)
  return function(command, key, ...)
    if key and command ~= 'PUBLISH' and not declared[key] then
      error('ERR ' .. command .. ' of the undeclared key ' .. key)
    end
    if key then return run(command, key, ...) end
    return run(command)
  end
end
local redis = {call = checked(server.call), pcall = checked(server.pcall)}
"""
"""Precedes a script, whose `redis` it is."""


@pytest.fixture
async def world(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MeteringWorld]:
    """Return a world whose scripts check their keys."""
    plain = scripts.lua_script
    monkeypatch.setattr(scripts, "lua_script", lambda name, source: plain(name, CHECK + source))
    made = MeteringWorld(valkey_url, tmp_path)
    await made.worker.start()
    yield made
    await made.close()


async def test_scripts_of_accounts_use_declared_keys_only(world: MeteringWorld) -> None:
    """Admission, fallback, renewal, settlement, sweep and booking of two accounts of one shard."""
    accounts = ("acct_1", "acct_74")
    for account_id in accounts:
        world.sql.put(account_id, balance=1_000_000)
    limits = KeyLimits(rpm=100, budget_day_nanousd=1_000_000)
    held = [
        await world.reserve(account_id=account_id, limits=limits, key_id=account_id)
        for account_id in accounts
        for _ in range(3)
    ]
    await world.metering.running.renew()
    for reservation in held[::2]:
        await world.worker.settle(reservation, Usage(input=5))
    world.clock.now_ms = NOON_MS + 600_000

    assert await world.metering.sweeper.sweep() == 3
    assert await world.ledger.book() == 6
    assert await world.probe.waiting() == []


async def test_script_that_uses_another_key_is_refused(world: MeteringWorld) -> None:
    """The check itself: a call whose account is not declared fails."""
    world.sql.put()
    reservation = await world.worker.reserve(ask_for())
    batches = world.metering.journal.settlements._batches
    header = batches._header
    batches._header = lambda shard: header(shard)._replace(accounts=b"another:")

    await world.worker.settle(reservation, Usage(input=5))

    assert await world.probe.waiting() == []


async def test_response_that_makes_room_removes_declared_keys_only(
    world: MeteringWorld, valkey_url: str
) -> None:
    """The oldest responses are found first, then removed."""
    redis = PipelinedRedis(parse_address(valkey_url), PATIENT, scripts=response_scripts())
    await redis.start()
    settings = Responses(store_ttl_s=60, max_account_bytes=100)
    records = ResponseRecords(redis, settings, world.prefix)
    parts = {Part.INPUT: b"i" * 20, Part.RESPONSE: b"r" * 20}
    both = frozenset(parts)
    try:
        kept = [await records.keep("acct_1", name, parts) for name in (b"a", b"b", b"c")]
        found = await records.fetch("acct_1", [(b"a", both), (b"c", both)], renew=True)
        census = WorkerCensus(redis, world.prefix)
        await census.count()
        await census.aclose()
    finally:
        await redis.aclose()

    assert kept == [True, True, True]
    assert found == [{}, parts]

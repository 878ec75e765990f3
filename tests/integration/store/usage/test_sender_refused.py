"""What Redis refuses for itself holds up nothing else: events, calls, accounts, files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.model import CallRecord, Usage
from gateway.store.spill.segments import segments
from gateway.store.usage.sender import dead_letter_key
from tests.support.metering import NOON_MS, MeteringWorld, ask_for, event_for, reports
from tests.support.usage import encoded
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
LEASE_MS = 30_000
ABSURD = 10**19
"""More than 64 bits hold."""


@pytest.fixture
async def world(valkey: ValkeyProcess, tmp_path: Path) -> AsyncIterator[MeteringWorld]:
    world = MeteringWorld(valkey.url, tmp_path)
    for name in ("acct_1", "acct_2"):
        world.sql.put(name, balance=1000, credit=0)
    await world.worker.start()
    yield world
    await world.close()


async def dead(world: MeteringWorld) -> list[dict[bytes, bytes]]:
    """Return the dead letters."""
    prefix = world.probe.names.usage.partition(b"{")[0].decode()
    letters: Any = await world.probe.client.xrange(dead_letter_key(prefix))
    return [fields for _, fields in letters]


def event(request_id: str, cost: int, account_id: str = "acct_1") -> CallRecord:
    """Return a settlement."""
    return event_for(ask_for(request_id, account_id=account_id), cost_nanousd=cost)


def spill(home: Path, name: str, *lines: bytes) -> Path:
    """Leave a spill segment as a dead process does."""
    path = home / "spill" / f"usage_{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


async def test_replay_sets_aside_what_redis_refuses_and_goes_on(
    world: MeteringWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An absurd cost, junk, and a file that cannot be read hold up no segment behind them."""
    absurd = encoded(event("call_absurd", ABSURD))
    spill(tmp_path, "0", absurd, b"\xff{junk", encoded(event("call_1", 3)))
    (tmp_path / "spill" / "usage_1.jsonl").mkdir()
    spill(tmp_path, "2", encoded(event("call_2", 5)))

    world.metering.journal.start()
    await wait_until(lambda: len(segments(tmp_path / "spill")) == 1)

    assert sorted(each.request_id for each in await world.probe.waiting()) == ["call_1", "call_2"]
    assert await world.probe.number("pend") == 8
    letters = {letter[b"e"]: letter[b"reason"] for letter in await dead(world)}
    assert letters.keys() == {absurd, b"\xff{junk"}
    assert b"cost" in letters[absurd]
    assert world.worker.metrics.usage_refused._value.get() == 2
    refused = [r for r in caplog.records if r.msg == "usage_event_refused"]
    assert [record.__dict__["request_id"] for record in refused] == ["call_absurd"]
    (bad,) = [r for r in caplog.records if r.msg == "spill_segment_replay_failed"]
    assert (bad.levelno, bad.__dict__["file"]) == (logging.ERROR, "usage_1.jsonl")


async def test_absurd_usage_before_an_outage_loses_nothing_that_comes_in_it(
    world: MeteringWorld, valkey: ValkeyProcess, tmp_path: Path
) -> None:
    """One upstream's nonsense, then Redis away: what is spilled after it is charged."""
    held = [await world.reserve() for _ in range(8)]
    await world.worker.settle(held[0], Usage(input=5), cost_nanousd=ABSURD)
    valkey.kill()
    await world.worker.settle(held[1], Usage(input=5), cost_nanousd=ABSURD)
    for call in held[2:]:
        await world.worker.settle(call, Usage(input=5))
    waiting = len(segments(tmp_path / "spill"))

    valkey.start()
    world.metering.journal.start()
    await wait_until(lambda: segments(tmp_path / "spill") == [], 15)
    await world.ledger.book()

    assert waiting == 1
    assert world.sql.balance() == 1000 - 6 * 5
    assert world.worker.metrics.usage_refused._value.get() == 2


async def test_settlement_with_an_absurd_cost_frees_its_hold_and_is_set_aside(
    world: MeteringWorld, tmp_path: Path
) -> None:
    """Nothing beyond what one call can cost comes into Redis; the account goes on."""
    held = await world.reserve(limits=None)
    for cost in (ABSURD, -1):
        await world.worker.settle(held, Usage(input=5), cost_nanousd=cost)
    await world.run(Usage(input=7))

    assert len(await dead(world)) == 2
    assert segments(tmp_path / "spill") == []
    assert await world.probe.available() == 993
    assert await world.probe.leftovers() == []


async def test_account_whose_sums_are_damaged_holds_up_no_other(
    world: MeteringWorld, tmp_path: Path
) -> None:
    """Its events are set aside, those of others in the same files are charged."""
    await world.run(account_id="acct_2")
    await world.ledger.book()
    damaged = world.probe.names  # acct_1's shard
    await world.probe.client.hset(damaged.accounts + b"acct_1", b"pend", b"many")
    spill(
        tmp_path, "0", encoded(event("call_1", 3)), encoded(event("call_2", 4, account_id="acct_2"))
    )

    await world.metering.journal.append(event("call_3", 5))
    world.metering.journal.start()
    await wait_until(lambda: segments(tmp_path / "spill") == [])
    await world.ledger.book()

    letters = [msgspec.json.decode(letter[b"e"])["request_id"] for letter in await dead(world)]
    assert sorted(letters) == ["call_1", "call_3"]
    assert world.sql.balance("acct_2") == 996


async def test_ledger_writer_gets_past_an_account_whose_sums_are_damaged(
    world: MeteringWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """What SQL has leaves the stream, whatever Redis holds of the account."""
    await world.metering.journal.append(event("call_1", 3))
    await world.probe.client.hset(world.probe.key, b"pend", b"many")

    await world.ledger.book()

    assert world.sql.balance() == 997
    assert await world.probe.waiting() == []
    assert "account_state_damaged" in [record.msg for record in caplog.records]


@pytest.mark.parametrize("record", [b"\xc1junk", msgspec.msgpack.encode([1, 2])])
async def test_call_that_cannot_be_swept_holds_up_no_other(
    world: MeteringWorld, record: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its record is set aside once; the calls behind it are settled."""
    names = world.probe.names
    await world.probe.client.hset(names.calls, b"call_0", record)
    await world.probe.client.zadd(names.leases, {b"call_0": NOON_MS - 1})
    held = await world.reserve()
    world.clock.now_ms += LEASE_MS

    swept = await world.metering.sweeper.sweep(), await world.metering.sweeper.sweep()

    assert swept == (1, 0)
    assert [each.request_id for each in await world.probe.waiting()] == [held.request.request_id]
    assert [letter[b"e"] for letter in await dead(world)] == [record]
    assert await world.probe.client.hexists(names.calls, b"call_0") is False
    assert world.worker.metrics.usage_refused._value.get() == 1
    assert await world.probe.leases() == 0


async def test_call_that_cannot_be_renewed_costs_no_other_its_lease(
    world: MeteringWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Of calls in one script the refused one alone runs out; so does one that is absurd."""
    world.sql.put("acct_3", balance=1000, credit=0)
    calls = [await world.reserve(account_id=f"acct_{n}") for n in (1, 3, 2)]
    absurd = await world.reserve()
    reports(absurd, event_for(absurd.request, cost_nanousd=2**70))
    key = world.metering.running._names.of("acct_3").accounts + b"acct_3"
    await world.probe.client.delete(key)
    await world.probe.client.set(key, b"not a hash")
    calls[1].hold_nanousd += 1

    world.clock.now_ms += LEASE_MS - 1
    await world.metering.running.renew()
    world.clock.now_ms += 1
    await world.probe.client.delete(key)
    await world.metering.sweeper.sweep()

    refused = [r.__dict__ for r in caplog.records if r.msg == "call_renewal_failed"]
    assert [record["request_id"] for record in refused] == [calls[1].request.request_id]
    assert world.worker.metrics.abandoned._value.get() == 1


async def test_redis_without_memory_is_away_and_nothing_is_set_aside(
    world: MeteringWorld, tmp_path: Path
) -> None:
    """What the server refuses for want of memory waits on disk until there is some."""
    await world.probe.client.config_set("maxmemory", 1)
    await world.metering.journal.append(event("call_1", 3))
    waiting = len(segments(tmp_path / "spill"))
    await world.probe.client.config_set("maxmemory", 0)

    world.metering.journal.start()
    await wait_until(lambda: segments(tmp_path / "spill") == [])

    assert waiting == 1
    assert [each.request_id for each in await world.probe.waiting()] == ["call_1"]
    assert await dead(world) == []


async def test_event_that_redis_takes_nowhere_stays_on_disk(
    world: MeteringWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even the dead-letter stream refuses: the file stays, what is in it besides is charged."""
    prefix = world.probe.names.usage.partition(b"{")[0].decode()
    await world.probe.client.set(dead_letter_key(prefix), b"not a stream")
    absurd = encoded(event("call_absurd", ABSURD))
    spill(tmp_path, "0", absurd, encoded(event("call_1", 3)))
    spill(tmp_path, "1", encoded(event("call_2", 5)))

    await world.metering.journal._replay.run(world.metering.journal._redis)
    kept = [path.name for path in segments(tmp_path / "spill")]
    await world.probe.client.delete(dead_letter_key(prefix))
    await world.metering.journal._replay.run(world.metering.journal._redis)

    assert kept == ["usage_0.jsonl"]
    assert segments(tmp_path / "spill") == []
    assert {each.request_id for each in await world.probe.waiting()} == {"call_1", "call_2"}
    assert [letter[b"e"] for letter in await dead(world)] == [absurd]


async def test_age_of_what_waits_on_disk_is_told_also_while_redis_is_away(
    world: MeteringWorld, valkey: ValkeyProcess, tmp_path: Path
) -> None:
    """The gauge grows from the last write of the oldest file."""
    old = spill(tmp_path, "0", encoded(event("call_1", 3)))
    os.utime(old, (time.time() - 500,) * 2)
    valkey.kill()
    gauge = world.worker.metrics.spill_oldest._value

    world.metering.journal.start()
    await wait_until(lambda: gauge.get() >= 500)
    valkey.start()
    await wait_until(lambda: gauge.get() == 0, 15)


async def test_worker_that_stood_still_sweeps_nothing_for_a_lease(world: MeteringWorld) -> None:
    """When all workers stood still, all leases have run out, and none of the calls is dead."""
    now = 1000.0
    sweeper = world.metering.sweeper
    sweeper._clock = lambda: now
    sweeper._rest_until = 0.0
    await world.reserve()
    world.clock.now_ms += LEASE_MS

    sweeper.rest_after(45.0)
    resting = await sweeper.turn()
    now += 30.0
    sweeper.rest_after(1.0)

    assert (resting, await sweeper.turn()) == (False, True)

"""Usage that was set aside over a real Valkey: read, and booked once after it is requeued."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.core.model import CallRecord
from gateway.operations.service.upkeep import UpkeepOperations
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.accounts.reconcile import Difference
from gateway.store.accounts.reconcile_runs import ReconcileRun, ReconcileRuns
from gateway.store.hot_state.redis_schema import RedisKeys, account_scripts
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.sql.database import Database
from gateway.store.usage.dead_letters import (
    DeadLetters,
    UnknownLetterError,
    UnreadableLetterError,
)
from gateway.store.usage.sender import dead_letter, dead_letter_key
from tests.support.usage import usage_event

pytestmark = pytest.mark.redis
BY = Actor("operator:user_1")


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(parse_address(valkey_url), scripts=account_scripts().all())
    await client.start()
    yield client
    await client.aclose()


async def set_aside(redis: PipelinedRedis, prefix: str, line: bytes, reason: str) -> str:
    """Add a dead letter; return its id."""
    added = await redis.command(*dead_letter(dead_letter_key(prefix), line, reason))
    assert isinstance(added, bytes)
    return added.decode()


async def waiting(redis: PipelinedRedis, prefix: str, account_id: str) -> list[CallRecord]:
    """Return the events in the stream of an account."""
    found = await redis.command("XRANGE", RedisKeys(prefix).of(account_id).usage, "-", "+")
    assert isinstance(found, list)
    entries = [dict(zip(each[1][::2], each[1][1::2], strict=True)) for each in found]  # type: ignore[index]
    return [msgspec.json.decode(each[b"e"], type=CallRecord) for each in entries]


async def test_requeued_event_waits_for_the_ledger_again(
    redis: PipelinedRedis, prefix: str, database: Database
) -> None:
    """As it was, and the letter is gone; it is audited by its request id."""
    event = usage_event("req_aside", account_id="acct_1", cost_nanousd=700)
    first = await set_aside(redis, prefix, msgspec.json.encode(event), "IntegrityError: account")
    junk = await set_aside(redis, prefix, b"\xff{junk", "not a usage event")
    letters = DeadLetters(redis, prefix)
    upkeep = UpkeepOperations(database, letters, ReconcileRuns(redis.command, prefix))

    listed = await upkeep.letters(limit=10)
    older = await upkeep.letters(before=junk, limit=10)
    await upkeep.requeue(first, BY)
    (entry,) = await AuditLog(database).list(object_id="req_aside")

    assert [(each.id, each.event) for each in listed] == [(junk, None), (first, event)]
    assert [each.id for each in older] == [first]
    assert listed[1].reason == "IntegrityError: account"
    assert await waiting(redis, prefix, "acct_1") == [event]
    assert await upkeep.letter_count() == 1
    assert (entry.action, entry.before) == (
        "usage.requeue",
        {"letter": first, "reason": "IntegrityError: account"},
    )


async def test_letter_that_cannot_be_sent_stays(redis: PipelinedRedis, prefix: str) -> None:
    """One that is gone, or is no event, is refused by name."""
    junk = await set_aside(redis, prefix, b"{}", "not a usage event")
    letters = DeadLetters(redis, prefix)

    for letter_id in ("1-1", "x", "-", "+"):
        with pytest.raises(UnknownLetterError):
            await letters.requeue(letter_id)
    with pytest.raises(UnreadableLetterError):
        await letters.requeue(junk)
    assert await letters.count() == 1


async def test_event_that_is_refused_again_becomes_a_new_letter(
    redis: PipelinedRedis, prefix: str
) -> None:
    """Its reason is that of the last try."""
    event = usage_event("req_absurd", cost_nanousd=10**19)
    first = await set_aside(redis, prefix, msgspec.json.encode(event), "before")
    letters = DeadLetters(redis, prefix)
    await letters.requeue(first)

    (again,) = await letters.list(limit=10)
    assert again.id != first
    assert again.event == event
    assert "cost" in again.reason


async def test_reconciliation_is_taken_by_one_process_and_its_result_kept(
    redis: PipelinedRedis, prefix: str
) -> None:
    """It is not asked for twice while it runs."""
    runs = ReconcileRuns(redis.command, prefix)
    assert await runs.last() is None
    asked = [await runs.ask("operator:a"), await runs.ask("operator:b")]
    taken = [await runs.take(), await runs.take()]
    while_running = await runs.ask("operator:b"), await runs.is_pending()
    difference = Difference(
        check="balance", account_id="acct_1", subject="acct_1", expected_nanousd=5,
        found_nanousd=None,
    )  # fmt: skip
    run = ReconcileRun(
        asked_by="operator:a", at=7, took_ms=12, accounts=3, entries=9, differences=1,
        shown=(difference,),
    )  # fmt: skip
    await runs.finish(run)

    assert asked == [True, False]
    assert taken == ["operator:a", None]
    assert while_running == (False, True)
    assert await runs.last() == run
    assert not await runs.is_pending()
    assert await runs.ask("operator:b")

"""What is owed to a Redis that does not respond: bounds, giving up, and nothing sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest

from gateway.core.idempotency import GrantedClaim
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.idempotency.records import (
    MAX_PENDING_BYTES,
    MAX_PENDING_FREES,
    IdempotencyRecords,
)
from gateway.store.redis.client import PipelinedRedis, Reason, RedisUnavailable, Reply, ReplyError
from gateway.store.redis.connection import Argument
from gateway.store.redis.scripts import LuaScript
from tests.support.idempotency import ANSWER, claim_of

MEBIBYTE = 1024 * 1024
SPENT_BYTES = 33
SETTINGS = Idempotency(lease_s=30, ttl_s=100)
CLAIM = claim_of()


class FakeBus:
    """Replies `reply` to every begin and 1 to every other script, unless `failure` is set."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.reply: Reply = 0
        self.ends: list[bytes] = []
        self.refused = 0
        self.at_once_bytes = 0
        self.most_at_once_bytes = 0

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        if self.failure is not None:
            self.refused += 1
            raise self.failure
        if script.name == "begin":
            return self.reply
        record = args[1]
        assert isinstance(record, bytes)
        self.at_once_bytes += len(record)
        self.most_at_once_bytes = max(self.most_at_once_bytes, self.at_once_bytes)
        await asyncio.sleep(0)
        self.at_once_bytes -= len(record)
        self.ends.append(record)
        return 1


class Clock:
    """Seconds, set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(bus: FakeBus, clock: Clock) -> IdempotencyRecords:
    return IdempotencyRecords(
        cast("PipelinedRedis", bus), SETTINGS, "p:", count=lambda _: None, clock=clock
    )


async def held(records: IdempotencyRecords) -> GrantedClaim:
    begun = await records.begin(CLAIM)
    assert isinstance(begun, GrantedClaim)
    return begun


async def test_owed_answers_beyond_the_bound_are_left_out(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """However long Redis is away, memory is bounded and no charge is forgotten."""
    count = MAX_PENDING_BYTES // MEBIBYTE + 4
    holds = [await held(records) for _ in range(count)]
    large = msgspec.structs.replace(ANSWER, body=b"x" * MEBIBYTE)
    bus.failure = RedisUnavailable("open")

    for hold in holds:
        await records.finish(hold, large)

    bus.failure = None
    await records.aclose()
    answers = [record for record in bus.ends if len(record) > SPENT_BYTES]
    assert len(bus.ends) == count
    assert MAX_PENDING_BYTES - 2 * MEBIBYTE < sum(map(len, answers)) <= MAX_PENDING_BYTES
    assert {len(record) for record in bus.ends if record not in answers} == {SPENT_BYTES}


async def test_owed_outcomes_are_offered_a_part_at_a_time(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """What has gathered does not hold up other commands; one that is away is asked less."""
    holds = [await held(records) for _ in range(20)]
    large = msgspec.structs.replace(ANSWER, body=b"x" * (MEBIBYTE // 2))
    bus.failure = RedisUnavailable("lost")
    for hold in holds:
        await records.finish(hold, large)
    assert bus.refused == 20

    await records.aclose()
    refused_again = bus.refused - 20
    bus.failure = None
    await records.aclose()

    assert refused_again == 2
    assert len(bus.ends) == 20
    assert bus.most_at_once_bytes < MEBIBYTE + MEBIBYTE // 2


async def test_owed_frees_beyond_the_bound_are_left_to_the_lease(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """A storm of calls while Redis is slow does not gather without limit."""
    bus.failure = RedisUnavailable("timeout")
    for _ in range(MAX_PENDING_FREES + 5):
        with pytest.raises(GatewayError):
            await records.begin(CLAIM)

    bus.failure = None
    await records.aclose()

    assert bus.ends == [b""] * MAX_PENDING_FREES


@pytest.mark.parametrize("reason", ["open", "full", "closed"])
async def test_begin_that_was_not_sent_owes_nothing(
    bus: FakeBus, records: IdempotencyRecords, reason: Reason
) -> None:
    """A claim that was never sent to Redis needs no release."""
    bus.failure = RedisUnavailable(reason)
    with pytest.raises(GatewayError) as caught:
        await records.begin(CLAIM)

    bus.failure = None
    await records.aclose()

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert bus.ends == []


async def test_begin_refused_by_redis_is_unavailable(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """A Redis without memory, or a replica, can keep no promise either."""
    bus.failure = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")

    with pytest.raises(GatewayError) as caught:
        await records.begin(CLAIM)

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE


async def test_begin_over_an_answer_that_never_opens_is_unavailable(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """If garbage is written as fast as it is overwritten, `begin` fails instead of repeating."""
    bus.reply = b"nonsense"

    with pytest.raises(GatewayError) as caught:
        await records.begin(CLAIM)

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE


@pytest.mark.parametrize(("waited_s", "offered"), [(99, 2), (101, 0)])
async def test_owed_outcome_is_offered_until_nobody_could_use_it(
    bus: FakeBus, records: IdempotencyRecords, clock: Clock, waited_s: float, offered: int
) -> None:
    """An outcome is offered for as long as it would have been kept."""
    one, two = await held(records), await held(records)
    bus.failure = RedisUnavailable("lost")
    await records.finish(one, ANSWER)
    await records.finish(two, None)
    clock.now += waited_s

    bus.failure = None
    await records.aclose()

    assert len(bus.ends) == offered


async def test_outcome_that_redis_took_is_not_offered_again(
    bus: FakeBus, records: IdempotencyRecords
) -> None:
    """An outcome that Redis accepted is not sent a second time."""
    await records.finish(await held(records), ANSWER)

    await records.aclose()
    await records.aclose()

    assert len(bus.ends) == 1

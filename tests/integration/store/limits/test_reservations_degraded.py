"""Redis slow or gone: a share of the limits, or a clear refusal; and no harm afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Money
from gateway.store.redis.client import RedisLimits, RedisState, RedisUnavailable
from tests.support.metering import MODEL, AccountProbe, FakeSql, MeteringWorker, ask_for, event_for
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
QUICK = RedisLimits(
    command_timeout_s=0.05, failures_to_open=2, cooldown_s=0.05, stall_s=0.3, backoff_longest_s=0.05
)
KEY = KeyLimits(rpm=20, concurrency=20)


class Outage:
    """One worker on a Redis that can be paused."""

    def __init__(self, home: Path, money: Money, limits: RedisLimits = QUICK) -> None:
        self.server = ValkeyProcess()
        self.server.start()
        self.sql = FakeSql()
        self.worker = MeteringWorker(self.server.url, self.sql, home, limits=limits, money=money)
        self.probe = AccountProbe(self.server.url)

    async def start(self) -> None:
        await self.worker.start()
        self.worker.metering.journal.start()

    async def admitted(self, tries: int, limits: KeyLimits | None = KEY) -> int:
        """Begin calls until one is refused; return how many were admitted."""
        for n in range(tries):
            try:
                await self.worker.reserve(ask_for(limits=limits))
            except GatewayError as error:
                assert error.kind is ErrorKind.STORE_UNAVAILABLE
                return n
        return tries

    async def close(self) -> None:
        await self.worker.close()
        await self.probe.close()
        self.server.close()


@pytest.fixture
async def half(tmp_path: Path) -> AsyncIterator[Outage]:
    outage = Outage(tmp_path, Money(degraded="open", degraded_share=0.5))
    await outage.start()
    yield outage
    await outage.close()


async def test_calls_that_redis_does_not_know_are_settled_without_gathering(half: Outage) -> None:
    """A worker that dies within the gathering time loses none of them."""
    half.sql.put()
    await half.worker.settle(await half.worker.reserve(ask_for()))
    known = await half.worker.reserve(ask_for())
    half.server.pause()
    unknown = [await half.worker.reserve(ask_for()) for _ in range(2)]
    half.server.resume()
    journal = half.worker.metering.journal
    await wait_until(lambda: half.worker.bus.state is RedisState.READY)
    await journal.settlements.drain()

    await half.worker.metering.reservations.settle(known, event_for(known.request, Usage(input=5)))
    gathered = len(journal.settlements.gathered("acct_1"))
    for held in unknown:
        await half.worker.metering.reservations.settle(
            held, event_for(held.request, Usage(input=5))
        )

    assert [held.degraded for held in unknown] == [True, True]
    assert (gathered, len(journal.settlements.gathered("acct_1"))) == (1, 0)


async def test_known_clients_get_their_share_without_redis(half: Outage) -> None:
    """Half of 20 requests a minute, once Redis is silent."""
    half.sql.put()
    await half.worker.settle(await half.worker.reserve(ask_for(limits=KEY)))
    half.server.pause()

    assert await half.admitted(20) == 10

    half.server.resume()


async def test_share_holds_for_the_account_the_model_and_tokens_too(half: Outage) -> None:
    """The tightest of all scopes counts, and concurrent calls are counted to their end."""
    half.sql.put(limits=Limits(concurrency=6))
    key = KeyLimits(tpm=10_000, models={"m": Limits(tpm=180)})
    await half.worker.settle(await half.worker.reserve(ask_for(limits=key)))
    half.server.pause()

    held = [await half.worker.reserve(ask_for(limits=key)) for _ in range(3)]
    with pytest.raises(GatewayError):
        await half.worker.reserve(ask_for(limits=key))
    await half.worker.settle(held[0], Usage(input=10))
    again = await half.worker.reserve(ask_for(limits=key, input_tokens=10, max_tokens=5))

    assert again.degraded
    with pytest.raises(GatewayError):
        await half.worker.reserve(ask_for(limits=key))
    half.server.resume()


async def test_share_of_the_credit_is_spent_and_no_more(half: Outage) -> None:
    """Of 1000 nano-dollars 500 may be spent by this worker until Redis is back."""
    half.sql.put(balance=1000, credit=0)
    await half.worker.settle(await half.worker.reserve(ask_for()))
    half.server.pause()

    first = await half.worker.reserve(ask_for(input_tokens=400, max_tokens=0))
    with pytest.raises(GatewayError):
        await half.worker.reserve(ask_for(input_tokens=101, max_tokens=0))
    await half.worker.settle(first, Usage(input=100))
    await half.worker.reserve(ask_for(input_tokens=380, max_tokens=0))
    with pytest.raises(GatewayError):
        await half.worker.reserve(ask_for(input_tokens=30, max_tokens=0))

    half.server.resume()


async def test_budget_is_shared_as_credit_is(half: Outage) -> None:
    """A key with a budget spends half of it at most."""
    half.sql.put()
    key = KeyLimits(budget_day_nanousd=100)
    await half.worker.settle(await half.worker.reserve(ask_for(limits=key)))
    half.server.pause()

    assert await half.admitted(9, key) == 1

    half.server.resume()


async def test_client_never_seen_is_refused_without_redis(half: Outage) -> None:
    """Without Redis, an account that this worker has not seen is refused."""
    half.sql.put()
    half.server.pause()

    with pytest.raises(GatewayError) as refused:
        await half.worker.reserve(ask_for())

    assert refused.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert refused.value.retry_after_s == 1.0
    half.server.resume()


async def test_calls_of_an_outage_end_in_redis_when_it_is_back(half: Outage) -> None:
    """What was spilled is charged; limits are whole again; no slot and no hold is left."""
    half.sql.put(balance=1000, credit=0, limits=Limits(concurrency=8))
    await half.worker.settle(await half.worker.reserve(ask_for()))
    half.server.pause()
    held = [await half.worker.reserve(ask_for()) for _ in range(4)]
    for call in held[:2]:
        await half.worker.settle(call, Usage(input=10))
    half.server.resume()

    async def charged() -> bool:
        return await half.probe.number("pend") == 20

    await wait_until(charged, 10)
    await half.worker.metering.running.renew()
    running = await half.probe.number("n")
    for call in held[2:]:
        await half.worker.settle(call, Usage(input=10))
    await wait_until(lambda: len(half.worker.metering.running) == 0)

    assert running == 2
    assert await half.probe.available() == 960
    assert await half.probe.leftovers() == []
    fresh = await half.worker.reserve(ask_for())
    assert not fresh.degraded


async def test_share_begins_anew_with_each_outage(half: Outage) -> None:
    """A second outage is not charged with the first."""
    half.sql.put()
    for _ in range(2):
        await half.worker.settle(await half.worker.reserve(ask_for()))
        half.server.pause()
        assert await half.admitted(20, KeyLimits(rpm=10)) == 5
        half.server.resume()

        async def back() -> bool:
            try:
                held = await half.worker.reserve(ask_for())
            except GatewayError:
                return False
            await half.worker.settle(held)
            return not held.degraded

        await wait_until(back)


async def test_closed_gateway_refuses_fast_and_leaves_nothing(tmp_path: Path) -> None:
    """503 with when to retry, within the command's deadline; what Redis did is undone."""
    outage = Outage(tmp_path, Money(degraded="closed"))
    await outage.start()
    try:
        outage.sql.put(limits=Limits(concurrency=5))
        await outage.worker.settle(await outage.worker.reserve(ask_for()))
        outage.server.pause()
        began = time.monotonic()
        assert await outage.admitted(1) == 0
        took_s = time.monotonic() - began
        assert await outage.admitted(1) == 0
        outage.server.resume()
        await wait_until(lambda: outage.worker.bus.state is RedisState.READY)
        outage.worker.metering.redis_returned()

        async def clean() -> bool:
            return await outage.probe.leftovers() == [] and await outage.probe.leases() == 0

        await wait_until(clean)
        assert took_s < 1.0
    finally:
        await outage.close()


async def test_redis_that_refuses_is_as_redis_gone(half: Outage) -> None:
    """Out of memory, or in the middle of a failover: the same share."""
    half.sql.put()
    await half.worker.settle(await half.worker.reserve(ask_for(limits=KEY)))
    await half.probe.client.config_set("maxmemory", "1")

    held = await half.worker.reserve(ask_for(limits=KEY))
    await half.worker.settle(held, Usage(input=5))
    await half.probe.client.config_set("maxmemory", "0")

    async def charged() -> bool:
        return await half.probe.number("pend") == 5

    await wait_until(charged, 10)
    assert held.degraded


async def test_worst_cases_count_against_the_share_without_redis(tmp_path: Path) -> None:
    """Small holds do not stretch it; unless the account is trusted."""
    money = Money(degraded_share=0.5, exposure_floor="0", exposure_share=0.0)
    outage = Outage(tmp_path, money)
    await outage.start()
    try:
        outage.sql.put(balance=1000, credit=0)
        outage.sql.put("friend", balance=1000, credit=0, trusted=True)
        for account in ("acct_1", "friend"):
            held = await outage.worker.reserve(
                ask_for(account_id=account, input_tokens=1, max_tokens=1, input_bound=1)
            )
            await outage.worker.settle(held)
        outage.server.pause()

        admitted = []
        for account in ("acct_1", "friend"):
            count = 0
            for _ in range(8):
                ask = ask_for(account_id=account, input_tokens=1, max_tokens=1, input_bound=36)
                try:
                    held = await outage.worker.reserve(ask)
                except GatewayError:
                    break
                assert held.worst_nanousd == (100 if account == "acct_1" else held.hold_nanousd)
                count += 1
            admitted.append(count)
        # Of the 1000 the first call's worst case, 65, was taken at the last reply of Redis.
        assert admitted == [4, 8]
        outage.server.resume()
    finally:
        await outage.close()


OTHER = msgspec.structs.replace(MODEL, name="other")
SECOND = ask_for("req_f", limits=KEY, model=OTHER, max_tokens=50)
PATIENT = RedisLimits(
    command_timeout_s=0.5, failures_to_open=9, cooldown_s=0.05, stall_s=9.0, backoff_longest_s=0.05
)


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Outage]:
    outage = Outage(tmp_path, Money(degraded="open", degraded_share=0.5), PATIENT)
    await outage.start()
    yield outage
    await outage.close()


async def test_late_release_does_not_drop_what_a_fallback_holds(patient: Outage) -> None:
    """The first model's release failed, and is sent again when the fallback is admitted."""
    patient.sql.put()
    first = await patient.worker.reserve(ask_for("req_f", limits=KEY))
    patient.server.pause()
    await patient.worker.metering.reservations.release(first)
    pending = patient.worker.metering.reservations._redis._unreleased
    await wait_until(lambda: pending)
    patient.server.resume()
    await wait_until(lambda: patient.worker.bus.state is RedisState.READY)

    fallback = await patient.worker.reserve(SECOND)
    await wait_until(lambda: not pending)
    # That release precedes this on the same connection.
    await patient.worker.settle(await patient.worker.reserve(ask_for(limits=KEY)))

    assert not fallback.degraded
    assert await patient.probe.held() == (1, fallback.hold_nanousd)
    assert await patient.probe.leases() == 1
    await patient.worker.settle(fallback, Usage(input=5))
    assert await patient.probe.leftovers() == []
    assert await patient.probe.number("pend") == 5


async def test_release_of_a_call_that_runs_on_without_redis_is_harmless(patient: Outage) -> None:
    """The fallback began without Redis, and its hold is restored before the release comes."""
    patient.sql.put()
    first = await patient.worker.reserve(ask_for("req_f", limits=KEY))
    patient.server.pause()
    await patient.worker.metering.reservations.release(first)
    fallback = await patient.worker.reserve(SECOND)
    assert fallback.degraded
    patient.server.resume()
    await wait_until(lambda: patient.worker.bus.state is RedisState.READY)

    async def renewed() -> bool:
        try:
            await patient.worker.metering.running.renew()
        except RedisUnavailable:
            return False
        return True

    await wait_until(renewed)
    patient.worker.metering.redis_returned()

    async def held() -> bool:
        return await patient.probe.held() == (1, fallback.hold_nanousd)

    await wait_until(held)
    await patient.worker.settle(await patient.worker.reserve(ask_for(limits=KEY)))
    assert await patient.probe.held() == (1, fallback.hold_nanousd)
    await patient.worker.settle(fallback, Usage(input=5))
    assert await patient.probe.leftovers() == []

"""Whether an account has credit, before its call is known; and token counts, that cost nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Endpoint, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import ReservationRequest
from gateway.store.limits.account_loader import ASK_AGAIN_S
from tests.support.metering import MeteringWorld, ask_for
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


async def refused(world: MeteringWorld) -> ErrorKind | None:
    """Why the account is refused before its call is known, if it is."""
    error = await world.metering.credit.refusal("acct_1")
    return error.kind if error is not None else None


def count_ask(limits: KeyLimits | None = None) -> ReservationRequest:
    """A token count that asks to be admitted."""
    asked = ask_for(limits=limits, input_tokens=0, max_tokens=None)
    return msgspec.structs.replace(asked, endpoint=Endpoint.COUNT_TOKENS)


@pytest.mark.parametrize(
    ("balance", "credit_limit", "has_credit"),
    [(1, 0, True), (0, 0, False), (-5, 0, False), (-5, 6, True), (-5, 5, False), (-5, None, True)],
)
async def test_credit_is_balance_and_credit_limit(
    world: MeteringWorld, balance: int, credit_limit: int | None, has_credit: bool
) -> None:
    """Without a credit limit an account always has credit; what is read is known afterwards."""
    world.sql.put(balance=balance, credit=credit_limit)

    assert not world.metering.credit.is_known_positive("acct_1")
    assert await refused(world) == (None if has_credit else ErrorKind.NO_CREDIT)
    assert world.metering.credit.is_known_positive("acct_1") is has_credit


async def test_credit_held_by_running_calls_is_credit(world: MeteringWorld) -> None:
    """Holds are the reservation's business: they come back."""
    world.sql.put(balance=30, credit=0)
    held = await world.reserve()

    assert not world.metering.credit.is_known_positive("acct_1")
    assert await refused(world) is None

    await world.worker.settle(held, Usage(output=30))
    assert await refused(world) is ErrorKind.NO_CREDIT


async def test_admitted_and_refused_calls_tell_what_is_left(world: MeteringWorld) -> None:
    """After a call that left credit Redis is not queried; a refusal by the script is noticed."""
    world.sql.put(balance=35, credit=0)
    held = await world.reserve()

    assert world.metering.credit.is_known_positive("acct_1")
    await world.worker.settle(held, Usage(output=35))
    await world.refusal()

    assert not world.metering.credit.is_known_positive("acct_1")


async def test_credit_that_was_bought_is_found_at_the_next_request(world: MeteringWorld) -> None:
    """Also when only SQL has it, once ASK_AGAIN_S has passed."""
    world.sql.put(balance=0, credit=0)
    assert await refused(world) is ErrorKind.NO_CREDIT
    world.sql.credit("acct_1", 5)
    await world.metering.accounts.refresh("acct_1")

    assert await refused(world) is None

    world.sql.credit("acct_1", -5)
    await world.metering.accounts.refresh("acct_1")
    assert await refused(world) is ErrorKind.NO_CREDIT
    world.sql.credit("acct_1", 5)
    world.metering.accounts._asked["acct_1"] -= ASK_AGAIN_S

    assert await refused(world) is None


async def test_requests_at_once_share_one_question(world: MeteringWorld) -> None:
    """An account without credit costs Redis no more than one command at a time."""
    world.sql.put(balance=0, credit=0)

    errors = await asyncio.gather(*(world.metering.credit.refusal("acct_1") for _ in range(50)))

    assert {error.kind for error in errors if error} == {ErrorKind.NO_CREDIT}
    assert world.sql.loads == 1


async def test_account_that_does_not_exist_is_refused(world: MeteringWorld) -> None:
    """An unknown account is refused with the same error as by a reservation."""
    with pytest.raises(GatewayError) as caught:
        await world.metering.credit.refusal("nobody")

    assert caught.value.kind is ErrorKind.FORBIDDEN


async def test_without_redis_what_was_last_known_decides(tmp_path: Path) -> None:
    """An unknown account is left to the reservation; one without credit must retry later."""
    server = ValkeyProcess()
    server.start()
    world = MeteringWorld(server.url, tmp_path)
    try:
        await world.worker.start()
        world.sql.put(balance=0, credit=0)
        assert await refused(world) is ErrorKind.NO_CREDIT
        server.kill()

        assert await refused(world) is ErrorKind.STORE_UNAVAILABLE
        assert await world.metering.credit.refusal("acct_2") is None
    finally:
        await world.close()
        server.close()


# Token counts.


async def test_token_counts_count_in_requests_and_concurrency_alone(world: MeteringWorld) -> None:
    """They hold no money, take no tokens, and are refused at the limit of requests."""
    world.sql.put(balance=0, credit=0, limits=Limits(concurrency=2))
    key = KeyLimits(rpm=3, tpm=1, budget_total_nanousd=0)
    reserve, release = world.worker.reserve, world.metering.reservations.release
    first, second = [await reserve(count_ask(key)) for _ in range(2)]

    assert (first.hold_nanousd, first.tokens) == (0, 0)
    assert await world.probe.held() == (2, 0)
    crowded = await world.refusal(count_ask(key))
    await release(first)
    await release(second)
    await wait_until(lambda: _is_free(world))
    await release(await reserve(count_ask(key)))
    fast = await world.refusal(count_ask(key))

    assert "concurrent calls" in crowded.message
    assert "3 requests per minute" in fast.message


async def test_token_count_leaves_no_event(world: MeteringWorld) -> None:
    """A token count leaves no usage event, no hold and no lease."""
    world.sql.put(balance=0, credit=0)

    await world.metering.reservations.release(await world.worker.reserve(count_ask()))
    await wait_until(lambda: _is_free(world))

    assert await world.probe.waiting() == []
    assert await world.probe.leases() == 0
    assert len(world.metering.running) == 0
    assert await world.probe.leftovers() == []


async def test_token_count_passes_a_full_limit_of_tokens(world: MeteringWorld) -> None:
    """Tokens a minute are of calls: also when a call took more than there were."""
    world.sql.put(balance=1000, credit=0)
    key = KeyLimits(tpm=30)
    held = await world.reserve(limits=key)
    await world.worker.settle(held, Usage(output=90))

    reservation = await world.worker.reserve(count_ask(key))

    await world.metering.reservations.release(reservation)


async def _is_free(world: MeteringWorld) -> bool:
    return (await world.probe.held())[0] == 0

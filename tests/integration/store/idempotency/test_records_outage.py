"""Idempotency keys while Redis is slow, away or empty, and while clients leave."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.core.idempotency import GrantedClaim
from gateway.errors import ErrorKind
from gateway.settings import Idempotency
from gateway.store.redis.client import RedisState
from tests.support.idempotency import (
    ANSWER,
    HASTY,
    OpenWorker,
    claim_of,
    counted,
    held,
    opening,
    outcome,
    refusal,
    until_free,
)
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

BRIEF = Idempotency(lease_s=0.3)


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def open_worker(prefix: str) -> AsyncIterator[OpenWorker]:
    """Make started workers, closed at the end."""
    async with opening(prefix) as opened:
        yield opened


async def test_begin_without_redis_is_refused_with_a_wait(
    valkey: ValkeyProcess, open_worker: OpenWorker
) -> None:
    """Without Redis a keyed call is refused with 503 and not run."""
    worker = await open_worker(valkey.url, limits=HASTY)
    valkey.kill()

    error = await refusal(worker, claim_of())

    assert error.kind is ErrorKind.STORE_UNAVAILABLE
    assert error.retry_after_s == 1.0
    assert worker.results == ["unavailable"]


async def test_begin_whose_reply_is_late_leaves_the_key_free(
    valkey: ValkeyProcess, open_worker: OpenWorker
) -> None:
    """If Redis granted the claim after the deadline, the claim is released."""
    worker = await open_worker(valkey.url, Idempotency(lease_s=30), limits=HASTY)
    valkey.pause()
    assert (await refusal(worker, claim_of())).kind is ErrorKind.STORE_UNAVAILABLE
    valkey.resume()

    await until_free(worker, claim_of())


async def test_finish_while_redis_restarts_is_never_run_again(
    open_worker: OpenWorker,
) -> None:
    """A charge made while Redis was away: repetitions are refused until it responds."""
    valkey = ValkeyProcess(persist=True)
    try:
        worker = await open_worker(valkey.start(), limits=HASTY)
        other = await open_worker(valkey.url, limits=HASTY)
        hold = await held(worker, claim_of())
        valkey.kill()
        await worker.records.finish(hold, ANSWER)

        valkey.start()
        begun, refused = await outcome(other, claim_of())
    finally:
        valkey.close()

    assert begun == ANSWER
    assert refused <= {ErrorKind.CONFLICT, ErrorKind.STORE_UNAVAILABLE}


async def test_outcomes_owed_to_a_redis_that_lost_everything_are_kept(
    valkey: ValkeyProcess, open_worker: OpenWorker, prefix: str
) -> None:
    """Outcomes that Redis did not take are offered until it does; freed keys stay free."""
    worker = await open_worker(valkey.url, limits=HASTY)
    holds = [await held(worker, claim_of(name)) for name in ("a", "b", "c")]
    valkey.kill()
    await wait_until(lambda: worker.bus.state is not RedisState.READY)
    await worker.records.finish(holds[0], ANSWER)
    await worker.records.finish(holds[1], None)
    await worker.records.free(holds[2])

    valkey.start()
    other = await open_worker(valkey.url)
    await wait_until(lambda: counted(other, prefix, 3))

    assert await other.records.begin(claim_of("a")) == ANSWER
    assert (await refusal(other, claim_of("b"))).kind is ErrorKind.IDEMPOTENCY_COMPLETED
    assert isinstance(await other.records.begin(claim_of("c")), GrantedClaim)


async def test_finish_that_is_cancelled_is_kept(valkey_url: str, open_worker: OpenWorker) -> None:
    """An outcome that was handed over is not lost with the task that did so."""
    worker, other = await open_worker(valkey_url), await open_worker(valkey_url)
    task = asyncio.create_task(worker.records.finish(await held(worker, claim_of()), ANSWER))
    await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])

    begun, refused = await outcome(other, claim_of())
    assert begun == ANSWER
    assert refused <= {ErrorKind.CONFLICT}


async def test_close_offers_what_is_owed(valkey: ValkeyProcess, open_worker: OpenWorker) -> None:
    """A worker that ends in order leaves no outcome behind that Redis would take."""
    worker = await open_worker(valkey.url, limits=HASTY, tended=False)
    hold = await held(worker, claim_of())
    valkey.kill()
    await wait_until(lambda: worker.bus.state is not RedisState.READY)
    await worker.records.finish(hold, ANSWER)
    valkey.start()
    await wait_until(lambda: worker.bus.state is RedisState.READY)

    await worker.records.aclose()

    assert await worker.records.begin(claim_of()) == ANSWER


async def test_cancelled_begin_that_took_the_key_gives_it_back(
    valkey: ValkeyProcess, open_worker: OpenWorker, prefix: str
) -> None:
    """Cancelling `begin` releases a claim that Redis grants afterwards."""
    worker = await open_worker(valkey.url, tended=False)
    other = await open_worker(valkey.url)
    task = asyncio.create_task(worker.records.begin(claim_of()))
    await asyncio.sleep(0)
    assert worker.bus.pending == 1
    task.cancel()
    await asyncio.wait([task])
    await wait_until(lambda: counted(other, prefix, 1))
    assert (await refusal(other, claim_of())).kind is ErrorKind.CONFLICT

    await worker.records.aclose()

    assert isinstance(await other.records.begin(claim_of()), GrantedClaim)


async def test_running_key_that_redis_lost_is_taken_again(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """A Redis that came back empty learns within a third of the lease what is running."""
    worker, other = await open_worker(valkey_url, BRIEF), await open_worker(valkey_url)
    await held(worker, claim_of())
    (name,) = await worker.keys(prefix)

    await worker.bus.command("DEL", name)

    await wait_until(lambda: counted(other, prefix, 1))
    assert (await refusal(other, claim_of())).kind is ErrorKind.CONFLICT

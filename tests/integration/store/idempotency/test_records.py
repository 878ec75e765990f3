"""Idempotency keys over a real Valkey: one run, one charge, leases, outages."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest

from gateway.core.idempotency import GrantedClaim
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.idempotency.records import IdempotencyRecords
from gateway.store.redis.client import PipelinedRedis, Reply
from gateway.store.redis.connection import Argument
from gateway.store.redis.scripts import LuaScript
from tests.support.idempotency import (
    ANSWER,
    OTHER_RAW_KEY,
    OpenWorker,
    Worker,
    claim_of,
    held,
    opening,
    refusal,
    until_free,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

ROOT = Path(__file__).resolve().parents[4]
BRIEF = Idempotency(lease_s=0.3)
HOLDER = """
import asyncio, sys
from gateway.settings import Idempotency
from gateway.store.redis.client import PipelinedRedis, Reply
from gateway.store.idempotency.records import IdempotencyRecords
from gateway.store.redis.scripts import LuaScript
from gateway.store.redis.connection import Argument
from tests.support.idempotency import Worker, claim_of

async def hold(url, prefix):
    worker = Worker(url, prefix, Idempotency(lease_s=0.3))
    await worker.start()
    await worker.records.begin(claim_of())
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold(*sys.argv[1:]))
"""


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def open_worker(prefix: str) -> AsyncIterator[OpenWorker]:
    """Make started workers, closed at the end."""
    async with opening(prefix) as opened:
        yield opened


async def test_begin_by_fifty_at_once_is_granted_to_one(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """Of fifty calls with one key, one runs and the others get a retryable conflict."""
    workers = [await open_worker(valkey_url), await open_worker(valkey_url)]

    begun = await asyncio.gather(
        *[workers[n % 2].records.begin(claim_of()) for n in range(50)], return_exceptions=True
    )

    refused = [error for error in begun if isinstance(error, GatewayError)]
    assert sum(isinstance(one, GrantedClaim) for one in begun) == 1
    assert [error.kind for error in refused] == [ErrorKind.CONFLICT] * 49
    assert {error.retry_after_s for error in refused} == {1.0}
    assert sorted(workers[0].results + workers[1].results) == ["fresh"] + ["running"] * 49


async def test_begin_after_finish_is_the_stored_answer(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """Any worker replays the stored response, any number of times."""
    first, second = await open_worker(valkey_url), await open_worker(valkey_url)

    await first.records.finish(await held(first, claim_of()), ANSWER)

    assert await first.records.begin(claim_of()) == ANSWER
    assert await second.records.begin(claim_of()) == ANSWER
    assert await second.records.begin(claim_of()) == ANSWER
    assert second.results == ["replayed"] * 2


async def test_begin_with_another_body_is_a_mismatch(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """A key stands for one body, while it runs and afterwards."""
    worker = await open_worker(valkey_url)
    other = claim_of(body=b'{"model":"m" }')
    hold = await held(worker, claim_of())

    while_running = await refusal(worker, other)
    await worker.records.finish(hold, ANSWER)
    afterwards = await refusal(worker, other)

    assert while_running.kind is afterwards.kind is ErrorKind.IDEMPOTENCY_MISMATCH
    assert await worker.records.begin(claim_of()) == ANSWER


async def test_begin_by_another_client_with_the_same_key_is_fresh(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """A header's value belongs to the API key that it came with."""
    worker = await open_worker(valkey_url)
    await worker.records.finish(await held(worker, claim_of()), ANSWER)

    assert isinstance(await worker.records.begin(claim_of(raw_key=OTHER_RAW_KEY)), GrantedClaim)


async def test_begin_after_free_is_fresh(valkey_url: str, open_worker: OpenWorker) -> None:
    """A run that failed without a charge leaves its key to the next one, with any body."""
    worker = await open_worker(valkey_url)

    await worker.records.free(await held(worker, claim_of()))

    assert isinstance(await worker.records.begin(claim_of(body=b"other")), GrantedClaim)


async def test_begin_after_a_charge_without_answer_is_completed(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """A charged stream is not run again; the error forbids a retry."""
    worker = await open_worker(valkey_url)

    await worker.records.finish(await held(worker, claim_of()), None)

    error = await refusal(worker, claim_of())
    assert error.kind is ErrorKind.IDEMPOTENCY_COMPLETED
    assert error.surface.openai_status == error.surface.anthropic_status == 409
    assert error.surface.should_retry is False


@pytest.mark.parametrize(("size", "kept"), [(100, True), (101, False)])
async def test_finish_with_too_large_an_answer_keeps_the_charge_only(
    valkey_url: str, open_worker: OpenWorker, size: int, kept: bool
) -> None:
    """At the limit a response is kept; beyond it a repetition is refused, not charged again."""
    worker = await open_worker(valkey_url, Idempotency(max_response_bytes=100))
    answer = msgspec.structs.replace(ANSWER, body=b"x" * size)

    await worker.records.finish(await held(worker, claim_of()), answer)

    if kept:
        assert await worker.records.begin(claim_of()) == answer
    else:
        assert (await refusal(worker, claim_of())).kind is ErrorKind.IDEMPOTENCY_COMPLETED


async def test_finish_beyond_what_the_account_may_store_keeps_the_charge_only(
    valkey_url: str, open_worker: OpenWorker
) -> None:
    """One account cannot fill Redis; what still fits is stored, and others are not touched."""
    worker = await open_worker(valkey_url, Idempotency(max_account_bytes=5000))
    large = msgspec.structs.replace(ANSWER, body=b"x" * 2000)
    claims = [claim_of(f"order-{n}") for n in range(5)]
    stranger = msgspec.structs.replace(claim_of(raw_key=OTHER_RAW_KEY), account_id="acct_2")

    for claim, answer in zip(claims, [large, large, large, large, ANSWER], strict=True):
        await worker.records.finish(await held(worker, claim), answer)
    await worker.records.finish(await held(worker, stranger), large)

    assert [await worker.records.begin(claim) for claim in claims[:2]] == [large, large]
    for claim in claims[2:4]:
        assert (await refusal(worker, claim)).kind is ErrorKind.IDEMPOTENCY_COMPLETED
    assert await worker.records.begin(claims[4]) == ANSWER
    assert await worker.records.begin(stranger) == large


async def test_records_live_as_long_as_the_settings_say(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """A running key lives for the lease, an outcome and the account's count for `ttl_s`."""
    worker = await open_worker(valkey_url, Idempotency(ttl_s=100, lease_s=30))
    hold = await held(worker, claim_of())
    (name,) = await worker.keys(prefix)
    running_ms = await worker.bus.command("PTTL", name)

    await worker.records.finish(hold, ANSWER)

    names = await worker.keys(prefix)
    assert names == [
        f"{prefix}{{s1}}idem-bytes:acct_1",
        f"{prefix}{{s1}}idem:{claim_of().scope.hex()}",
    ]
    assert isinstance(running_ms, int)
    assert 25_000 < running_ms <= 30_000
    for name in names:
        done_ms = await worker.bus.command("PTTL", name)
        assert isinstance(done_ms, int)
        assert 95_000 < done_ms <= 100_000


async def test_lease_of_a_running_call_is_renewed(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """A call may run much longer than its lease."""
    worker, other = await open_worker(valkey_url, BRIEF), await open_worker(valkey_url)
    hold = await held(worker, claim_of())
    end = asyncio.get_running_loop().time() + 4 * BRIEF.lease_s

    while asyncio.get_running_loop().time() < end:
        assert (await refusal(other, claim_of())).kind is ErrorKind.CONFLICT
        await asyncio.sleep(0.02)

    await worker.records.finish(hold, ANSWER)
    assert await other.records.begin(claim_of()) == ANSWER


async def test_freed_key_is_not_renewed(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """Renewing after the release does not restore the claim."""
    worker = await open_worker(valkey_url, BRIEF)
    ended = await held(worker, claim_of("ended"))
    await held(worker, claim_of("running"))
    await worker.records.free(ended)
    (name,) = await worker.keys(prefix)

    await worker.bus.command("PEXPIRE", name, 100_000)
    await wait_until(lambda: lives_shorter(worker, name, 1_000))

    assert await worker.keys(prefix) == [name]


async def lives_shorter(worker: Worker, name: str, limit_ms: int) -> bool:
    """Whether a name in Redis expires within a limit, as after a renewal."""
    left_ms = await worker.bus.command("PTTL", name)
    assert isinstance(left_ms, int)
    return 0 < left_ms < limit_ms


async def test_key_of_a_killed_worker_becomes_free(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """The claim of a killed worker is granted again once its lease has expired."""
    worker = await open_worker(valkey_url, BRIEF)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, valkey_url, prefix),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    assert (await refusal(worker, claim_of())).kind is ErrorKind.CONFLICT

    process.kill()
    await process.wait()

    await until_free(worker, claim_of())


async def test_run_that_lost_its_key_changes_nothing_of_its_successor(
    valkey_url: str, open_worker: OpenWorker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither end nor renewal of an old run touches the record of a new one."""
    old, new = await open_worker(valkey_url, BRIEF, tended=False), await open_worker(valkey_url)
    lost = await held(old, claim_of())
    (name,) = await old.keys(prefix)
    await new.bus.command("DEL", name)
    hold = await held(new, claim_of())

    old.records.start()
    await wait_until(lambda: "idempotency_lease_lost" in caplog.text)
    await old.records.free(lost)
    assert (await refusal(new, claim_of())).kind is ErrorKind.CONFLICT
    await old.records.finish(lost, ANSWER)
    assert (await refusal(new, claim_of())).kind is ErrorKind.CONFLICT

    other = msgspec.structs.replace(ANSWER, body=b"the new one's")
    await new.records.finish(hold, other)
    await old.records.finish(lost, ANSWER)
    assert await old.records.begin(claim_of()) == other
    assert "idempotency_claim_superseded" in caplog.text


async def test_finish_after_the_lease_ran_out_still_keeps_the_outcome(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """What was charged is kept, even if Redis has forgotten that it ran."""
    worker = await open_worker(valkey_url)
    hold = await held(worker, claim_of())
    (name,) = await worker.keys(prefix)
    await worker.bus.command("DEL", name)

    await worker.records.finish(hold, ANSWER)

    assert await worker.records.begin(claim_of()) == ANSWER


@pytest.mark.parametrize("place", [33, 45, -1], ids=["nonce", "text", "tag"])
async def test_begin_over_a_tampered_answer_is_fresh_and_logged(
    valkey_url: str,
    open_worker: OpenWorker,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    place: int,
) -> None:
    """A stored response that was altered counts as absent; the next outcome replaces it."""
    worker = await open_worker(valkey_url)
    await worker.records.finish(await held(worker, claim_of()), ANSWER)
    name = (await worker.keys(prefix))[1]
    record = bytearray(await worker.bus.command("GET", name))  # type: ignore[arg-type]
    record[place] ^= 1
    await worker.bus.command("SET", name, bytes(record))

    hold = await held(worker, claim_of())

    assert worker.results == ["fresh", "unreadable", "fresh"]
    (line,) = caplog.records
    assert (line.levelno, line.msg) == (logging.WARNING, "stored_response_decryption_failed")
    assert vars(line)["scope"] == claim_of().scope.hex()
    assert (await refusal(worker, claim_of())).kind is ErrorKind.CONFLICT
    await worker.records.finish(hold, ANSWER)
    assert await worker.records.begin(claim_of()) == ANSWER


class Interrupted:
    """A Redis client that runs `meanwhile` after the first script."""

    def __init__(self, bus: PipelinedRedis, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        reply = await self._bus.script(script, keys, args)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return reply


async def test_begin_over_a_tampered_answer_spares_one_that_came_meanwhile(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """Only the record that did not open is overwritten, not the good one that replaced it."""
    other = await open_worker(valkey_url)
    await other.records.finish(await held(other, claim_of()), ANSWER)
    name = (await other.keys(prefix))[1]
    await other.bus.command("SETRANGE", name, 40, b"tampered")
    better = msgspec.structs.replace(ANSWER, body=b"the other's")

    async def other_runs() -> None:
        await other.records.finish(await held(other, claim_of()), better)

    records = IdempotencyRecords(
        cast("PipelinedRedis", Interrupted(other.bus, other_runs)),
        Idempotency(),
        prefix,
        count=lambda _: None,
    )

    assert await records.begin(claim_of()) == better


async def test_answer_moved_to_another_record_does_not_open(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """A response copied to another call's record is not opened."""
    worker = await open_worker(valkey_url)
    await worker.records.finish(await held(worker, claim_of("a")), ANSWER)
    source = f"{prefix}{{s1}}idem:{claim_of('a').scope.hex()}"
    target = f"{prefix}{{s1}}idem:{claim_of('b').scope.hex()}"
    await worker.bus.command("COPY", source, target)

    assert isinstance(await worker.records.begin(claim_of("b")), GrantedClaim)

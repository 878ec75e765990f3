"""Stored responses in a real Valkey: kept, expired, renewed, removed, bounded, unreadable."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.stored_responses import Part, ResponseSealer, SealedParts, encode_input
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Responses
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.responses.records import (
    MOST_BYTES,
    MOST_REMOVED,
    ResponseRecords,
    response_scripts,
)
from tests.support.idempotency import HASTY, PATIENT, PRINCIPAL, RAW_KEY
from tests.support.stored_responses import SEALER
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

ACCOUNT = PRINCIPAL.account_id
BOTH = frozenset(Part)
SETTINGS = Responses(max_account_bytes=1000)


class Store:
    """Records on a key prefix of their own."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self.redis = redis
        self.prefix = f"{uuid.uuid4()}:"

    def records(self, settings: Responses = SETTINGS) -> ResponseRecords:
        return ResponseRecords(self.redis, settings, self.prefix)

    async def names(self) -> list[str]:
        found = await self.redis.command("KEYS", f"{self.prefix}*")
        assert isinstance(found, list)
        return sorted(bytes(each).decode().split("}")[1] for each in found)  # type: ignore[arg-type]

    async def counted(self) -> int:
        """Return the bytes that the account is said to take."""
        (name,) = [each for each in await self.names() if each.startswith("resp-bytes")]
        tag = self.prefix + "{" + (await self._tag()) + "}"
        value = await self.redis.command("GET", tag + name)
        assert isinstance(value, bytes)
        return int(value)

    async def _tag(self) -> str:
        found = await self.redis.command("KEYS", f"{self.prefix}*")
        assert isinstance(found, list)
        return bytes(found[0]).decode().split("{")[1].split("}")[0]  # type: ignore[arg-type]


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[Store]:
    redis = PipelinedRedis(parse_address(valkey_url), PATIENT, scripts=response_scripts())
    await redis.start()
    yield Store(redis)
    await redis.aclose()


def parts(size: int = 100) -> SealedParts:
    """Return parts of so many bytes together."""
    return {Part.INPUT: b"i" * (size // 2), Part.RESPONSE: b"r" * (size - size // 2)}


def name_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def found(records: ResponseRecords, *numbers: int, renew: bool = False) -> list[bool]:
    """Return which of the responses are there, whole."""
    wanted = [(name_of(number), BOTH) for number in numbers]
    fetched = await records.fetch(ACCOUNT, wanted, renew=renew)
    assert fetched is not None
    assert {len(each) for each in fetched} <= {0, 2}
    return [len(each) == 2 for each in fetched]


async def test_parts_come_back_as_wanted(store: Store) -> None:
    """In the order of the request; what is missing is empty."""
    records = store.records()
    kept = parts()
    assert await records.keep(ACCOUNT, name_of(1), kept)

    fetched = await records.fetch(
        ACCOUNT,
        [
            (name_of(1), frozenset({Part.RESPONSE})),
            (name_of(2), BOTH),
            (name_of(1), frozenset({Part.INPUT})),
            (name_of(1), BOTH),
        ],
        renew=True,
    )

    assert fetched == [
        {Part.RESPONSE: kept[Part.RESPONSE]},
        {},
        {Part.INPUT: kept[Part.INPUT]},
        kept,
    ]


async def test_response_expires_unless_it_is_used(store: Store) -> None:
    """A lookup with renewal keeps it for its whole time again; one without does not."""
    records = store.records(Responses(store_ttl_s=1.0))
    for number in (1, 2, 3):
        await records.keep(ACCOUNT, name_of(number), parts())
    gone: list[bool] = []

    async def others_expired() -> bool:
        (kept,) = await found(records, 1, renew=True)
        assert kept
        gone[:] = await found(records, 2, 3)
        return not any(gone)

    await wait_until(others_expired)
    assert await found(records, 1) == [True]


async def test_nothing_is_left_after_the_last_response_expired(store: Store) -> None:
    """Neither the order of use nor the counter stays behind."""
    records = store.records(Responses(store_ttl_s=0.2))
    await records.keep(ACCOUNT, name_of(1), parts())
    assert len(await store.names()) == 3

    async def empty() -> bool:
        return await store.names() == []

    await wait_until(empty)


async def test_deleted_response_gives_its_bytes_back(store: Store) -> None:
    records = store.records()
    await records.keep(ACCOUNT, name_of(1), parts(400))
    await records.keep(ACCOUNT, name_of(2), parts(300))

    assert await records.forget(ACCOUNT, name_of(1))

    assert not await records.forget(ACCOUNT, name_of(1))
    assert await found(records, 1, 2) == [False, True]
    assert await store.counted() == 300


async def test_response_used_longest_ago_makes_room(store: Store) -> None:
    """An older one that is in use stays."""
    records = store.records()
    for number in (1, 2, 3):
        await records.keep(ACCOUNT, name_of(number), parts(300))
        await asyncio.sleep(0.002)  # the order is that of the milliseconds of their last use
    await found(records, 1, renew=True)

    assert await records.keep(ACCOUNT, name_of(4), parts(300))

    assert await found(records, 1, 2, 3, 4) == [True, False, True, True]
    assert await store.counted() == 900


async def test_response_larger_than_the_account_is_not_kept(store: Store) -> None:
    """And removes no other."""
    records = store.records()
    await records.keep(ACCOUNT, name_of(1), parts(900))

    assert not await records.keep(ACCOUNT, name_of(2), parts(1001))

    assert await found(records, 1, 2) == [True, False]


async def test_one_response_removes_a_bounded_number(store: Store) -> None:
    """Beyond it the new one is not kept; the next has room."""
    records = store.records(Responses(max_account_bytes=10 * (MOST_REMOVED + 50)))
    for number in range(MOST_REMOVED + 50):
        await records.keep(ACCOUNT, name_of(number), parts(10))
    large = parts(10 * (MOST_REMOVED + 40))

    first = await records.keep(ACCOUNT, name_of(9000), large)
    second = await records.keep(ACCOUNT, name_of(9001), large)

    assert (first, second) == (False, True)


async def test_expired_responses_do_not_count(store: Store) -> None:
    """Their bytes are free for the next, while one that is in use keeps the counter alive."""
    records = store.records(Responses(store_ttl_s=0.3, max_account_bytes=1000))
    await records.keep(ACCOUNT, name_of(1), parts(400))
    await records.keep(ACCOUNT, name_of(2), parts(400))

    async def one_expired() -> bool:
        await found(records, 2, renew=True)
        return await found(records, 1) == [False]

    await wait_until(one_expired)
    assert await records.keep(ACCOUNT, name_of(3), parts(600))

    assert await found(records, 2, 3) == [True, True]
    assert await store.counted() == 1000


async def test_one_lookup_is_bounded_in_bytes(store: Store) -> None:
    """Too much together is refused before it is read."""
    records = store.records(Responses(max_account_bytes=4 * MOST_BYTES))
    half = parts(MOST_BYTES // 2)
    for number in (1, 2, 3):
        assert await records.keep(ACCOUNT, name_of(number), half)

    assert await found(records, 1, 2) == [True, True]
    wanted = [(name_of(number), BOTH) for number in (1, 2, 3)]
    assert await records.fetch(ACCOUNT, wanted, renew=True) is None


async def test_scripts_lost_by_a_restart_are_loaded_again(store: Store) -> None:
    records = store.records()
    await store.redis.command("SCRIPT", "FLUSH")

    assert await records.keep(ACCOUNT, name_of(1), parts())
    assert await found(records, 1) == [True]


async def test_without_redis_nothing_is_kept_and_lookups_are_refused(
    valkey: ValkeyProcess,
) -> None:
    redis = PipelinedRedis(parse_address(valkey.url), HASTY, scripts=response_scripts())
    await redis.start()
    records = Store(redis).records()
    valkey.kill()
    try:
        assert not await records.keep(ACCOUNT, name_of(1), parts())
        for call in (
            records.fetch(ACCOUNT, [(name_of(1), BOTH)], renew=True),
            records.forget(ACCOUNT, name_of(1)),
        ):
            with pytest.raises(GatewayError) as refused:
                await call
            assert refused.value.kind is ErrorKind.STORE_UNAVAILABLE
            assert refused.value.retry_after_s == 1
    finally:
        await redis.aclose()


async def test_nothing_of_a_response_can_be_read_at_rest() -> None:
    """Neither in Redis's memory nor in its files: no text, id or key."""
    server = ValkeyProcess("--rdbcompression", "no", persist=True)
    server.start()
    redis = PipelinedRedis(parse_address(server.url), PATIENT, scripts=response_scripts())
    try:
        await redis.start()
        store = Store(redis)
        name = SEALER.name("0123456789abcdef")
        plain = {
            Part.INPUT: encode_input(b'[{"content":"my secret diagnosis is xyzzy"}]', ["abcdef00"]),
            Part.RESPONSE: b'{"id":"resp_0123456789abcdef","output":"take two plugh"}',
        }
        sealed = {part: SEALER.seal(name, part, value, bytes(12)) for part, value in plain.items()}
        assert await store.records(Responses()).keep(ACCOUNT, name, sealed)
        await redis.command("SAVE")
        written = on_disk(server.directory)
        assert name.hex().encode() in written
        for secret in (b"xyzzy", b"plugh", b"0123456789abcdef", b"abcdef00", RAW_KEY.encode()):
            assert secret not in written
    finally:
        await redis.aclose()
        server.close()
    assert ResponseSealer(RAW_KEY, PRINCIPAL).unseal(name, Part.RESPONSE, sealed[Part.RESPONSE], 99)


def on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())

"""What lies in Redis, and in its files, of calls with an Idempotency-Key: nothing readable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.core.idempotency import GrantedClaim
from gateway.settings import Idempotency
from tests.support.idempotency import ANSWER, OTHER_RAW_KEY, RAW_KEY, Worker, claim_of
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis

PROMPT = b'{"model":"m","messages":[{"role":"user","content":"my secret diagnosis is xyzzy"}]}'
REPLY = b'{"choices":[{"message":{"content":"take two plugh a day"}}]}' * 20
HEADER = "patient-4711-visit"


@pytest.fixture
def valkey() -> Iterator[ValkeyProcess]:
    """A Valkey that writes everything to its files, uncompressed."""
    server = ValkeyProcess("--rdbcompression", "no", persist=True)
    server.start()
    try:
        yield server
    finally:
        server.close()


def on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def secrets() -> list[bytes]:
    """What must not be found, and hashes by which it could be guessed."""
    plain = [RAW_KEY, OTHER_RAW_KEY, HEADER, "xyzzy", "plugh", "choices", "req_first"]
    texts = [text.encode() for text in plain]
    hashed = [RAW_KEY.encode(), HEADER.encode(), PROMPT]
    for text in hashed:
        digest = hashlib.sha256(text)
        texts += [digest.digest()[:16], digest.hexdigest()[:32].encode()]
    return texts


async def test_nothing_of_a_call_can_be_read_at_rest(valkey: ValkeyProcess) -> None:
    """Neither keys, headers, prompts nor responses, nor plain hashes of them, leave the worker."""
    worker = Worker(valkey.url, "rest:", Idempotency())
    await worker.start()
    answer = msgspec.structs.replace(ANSWER, body=REPLY)
    for raw_key in (RAW_KEY, OTHER_RAW_KEY):
        hold = await worker.records.begin(claim_of(HEADER, PROMPT, raw_key=raw_key))
        assert isinstance(hold, GrantedClaim)
        await worker.records.finish(hold, answer)
        await worker.records.begin(claim_of(f"{HEADER}-running", PROMPT, raw_key=raw_key))
        spent = await worker.records.begin(claim_of(f"{HEADER}-spent", PROMPT, raw_key=raw_key))
        assert isinstance(spent, GrantedClaim)
        await worker.records.finish(spent, None)
    await worker.bus.command("SET", "control", b"a control that is found")

    await worker.bus.command("SAVE")

    names = await worker.keys("rest:")
    values = [await worker.bus.command("GET", name) for name in names]
    rest = on_disk(valkey.directory) + repr(names).encode() + b"".join(map(bytes, values))  # type: ignore[arg-type]
    assert len(names) == 7
    assert b"a control that is found" in rest
    assert [secret for secret in secrets() if secret in rest] == []
    await worker.close()


async def test_equal_calls_of_two_clients_have_nothing_in_common(valkey: ValkeyProcess) -> None:
    """Equal requests and responses of two clients have different keys and values in Redis."""
    worker = Worker(valkey.url, "pair:", Idempotency())
    await worker.start()
    for raw_key in (RAW_KEY, OTHER_RAW_KEY):
        hold = await worker.records.begin(claim_of(HEADER, PROMPT, raw_key=raw_key))
        assert isinstance(hold, GrantedClaim)
        await worker.records.finish(hold, ANSWER)

    _, *names = await worker.keys("pair:")
    one, two = [await worker.bus.command("GET", name) for name in names]

    assert isinstance(one, bytes)
    assert isinstance(two, bytes)
    assert one[:1] == two[:1] == b"2"
    windows = {one[start : start + 4] for start in range(1, len(one) - 3)}
    assert not any(two[start : start + 4] in windows for start in range(1, len(two) - 3))
    await worker.close()

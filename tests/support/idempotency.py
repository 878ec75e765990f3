"""Clients, claims and workers' idempotency records for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import pytest

from gateway.core.idempotency import Claim, GrantedClaim, StoredResponse, keyed_request
from gateway.core.model import Endpoint, Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.idempotency.records import IdempotencyRecords, idempotency_scripts
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from tests.support.waiting import wait_until

RAW_KEY = "sk-capio-live-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM000000"
OTHER_RAW_KEY = "sk-capio-live-MLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba9876543210000000"
PRINCIPAL = Principal("key_1", "acct_1", "laptop", "active", 1)
ANSWER = StoredResponse(
    200, ((b"content-type", b"application/json"),), b'{"choices":[{"x":"forty-two"}]}', "req_first"
)
DEFAULTS = Idempotency()
PATIENT = RedisLimits(command_timeout_s=5.0)
HASTY = RedisLimits(
    command_timeout_s=0.1, failures_to_open=3, cooldown_s=0.05, stall_s=0.3, backoff_longest_s=0.05
)


def claim_of(
    value: str = "order-17",
    body: bytes = b'{"model":"m"}',
    *,
    raw_key: str = RAW_KEY,
    principal: Principal = PRINCIPAL,
    endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS,
) -> Claim:
    """The claim of a call with this header and body."""
    request = keyed_request([(b"idempotency-key", value.encode())], raw_key)
    assert request is not None
    return request.claim(principal, endpoint, body)


class Worker:
    """One worker's records, tended, and the results of its begins."""

    def __init__(
        self, url: str, prefix: str, settings: Idempotency, limits: RedisLimits = PATIENT
    ) -> None:
        self.results: list[str] = []
        self.bus = PipelinedRedis(
            parse_address(url, client_name="test"), limits, scripts=idempotency_scripts()
        )
        self.records = IdempotencyRecords(self.bus, settings, prefix, count=self.results.append)

    async def start(self, *, tended: bool = True) -> None:
        """Connect and begin to renew and to offer again; the latter only if `tended`."""
        await self.bus.start()
        if tended:
            self.records.start()

    async def close(self) -> None:
        """Stop as a worker that ends in order."""
        await self.records.aclose()
        await self.bus.aclose()

    async def keys(self, prefix: str) -> Sequence[str]:
        """The names in Redis under a prefix."""
        found = await self.bus.command("KEYS", f"{prefix}*")
        assert isinstance(found, list)
        return sorted(bytes(name).decode() for name in found)  # type: ignore[arg-type]


class OpenWorker(Protocol):
    """Makes a started worker on the Redis at `url`."""

    async def __call__(
        self,
        url: str,
        settings: Idempotency = ...,
        *,
        limits: RedisLimits = ...,
        tended: bool = ...,
    ) -> Worker: ...


@asynccontextmanager
async def opening(prefix: str) -> AsyncIterator[OpenWorker]:
    """Give what makes workers on one key prefix; close them at the end."""
    workers: list[Worker] = []

    async def opened(
        url: str,
        settings: Idempotency = DEFAULTS,
        *,
        limits: RedisLimits = PATIENT,
        tended: bool = True,
    ) -> Worker:
        worker = Worker(url, prefix, settings, limits)
        workers.append(worker)
        await worker.start(tended=tended)
        return worker

    yield opened
    for worker in workers:
        await worker.close()


async def held(worker: Worker, claim: Claim) -> GrantedClaim:
    """Begin a run that must be granted."""
    begun = await worker.records.begin(claim)
    assert isinstance(begun, GrantedClaim)
    return begun


async def refusal(worker: Worker, claim: Claim) -> GatewayError:
    """Begin a run that must be refused."""
    with pytest.raises(GatewayError) as caught:
        await worker.records.begin(claim)
    return caught.value


async def outcome(
    worker: Worker, claim: Claim
) -> tuple[GrantedClaim | StoredResponse, set[ErrorKind]]:
    """Begin until it is granted or replayed; return that and why it was refused before."""
    got: list[GrantedClaim | StoredResponse] = []
    refused: set[ErrorKind] = set()

    async def begins() -> bool:
        try:
            got.append(await worker.records.begin(claim))
        except GatewayError as error:
            refused.add(error.kind)
        return bool(got)

    await wait_until(begins)
    return got[0], refused


async def until_free(worker: Worker, claim: Claim) -> None:
    """Wait until a claim is granted; its call must not have completed."""
    begun, _ = await outcome(worker, claim)
    assert isinstance(begun, GrantedClaim)


async def counted(worker: Worker, prefix: str, count: int) -> bool:
    """Whether there are so many names in Redis under a prefix."""
    return len(await worker.keys(prefix)) == count

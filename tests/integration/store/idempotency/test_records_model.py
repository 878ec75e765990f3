"""Idempotency keys against a model: any order of runs, ends, lapses and tampering."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
    run_state_machine_as_test,
)

from gateway.core.idempotency import Claim, GrantedClaim, StoredResponse
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Idempotency
from gateway.store.redis.shards import hash_tag
from tests.support.idempotency import ANSWER, OTHER_RAW_KEY, RAW_KEY, Worker, claim_of

pytestmark = pytest.mark.redis

T = TypeVar("T")
LIMIT_BYTES = 50
CLAIMS = [
    claim_of(value, body, raw_key=raw_key)
    for value in ("order-1", "order-2")
    for body in (b"one", b"two")
    for raw_key in (RAW_KEY, OTHER_RAW_KEY)
]
SCOPES = sorted({claim.scope for claim in CLAIMS})


class Running(NamedTuple):
    """A key taken by a run."""

    fingerprint: bytes
    token: bytes


class Done(NamedTuple):
    """A key with an outcome; None: charged, but nothing to repeat."""

    fingerprint: bytes
    answer: StoredResponse | None


class Records(RuleBasedStateMachine):
    """Two untended workers on one Valkey, and what should be there. `url` is set by the test."""

    url = ""
    holds: Bundle[GrantedClaim] = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.prefix = f"t{uuid.uuid4().hex}:"
        self.model: dict[bytes, Running | Done] = {}
        self.workers = self.run(self.open())

    async def open(self) -> list[Worker]:
        settings = Idempotency(max_response_bytes=LIMIT_BYTES)
        workers = [Worker(self.url, self.prefix, settings) for _ in range(2)]
        for worker in workers:
            await worker.start(tended=False)
        return workers

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        for worker in self.workers:
            self.run(worker.close())
        self.runner.close()

    def name(self, scope: bytes) -> str:
        return f"{self.prefix}{hash_tag('acct_1')}idem:{scope.hex()}"

    async def command(self, *arguments: bytes | str) -> object:
        return await self.workers[0].bus.command(*arguments)

    def expected(self, claim: Claim) -> ErrorKind | StoredResponse | None:
        """What a begin gets; None: the right to run."""
        match self.model.get(claim.scope):
            case None:
                return None
            case Running(fingerprint) | Done(fingerprint) if fingerprint != claim.fingerprint:
                return ErrorKind.IDEMPOTENCY_MISMATCH
            case Running():
                return ErrorKind.CONFLICT
            case Done(_, answer):
                return ErrorKind.IDEMPOTENCY_COMPLETED if answer is None else answer

    @rule(target=holds, claim=st.sampled_from(CLAIMS), worker=st.integers(0, 1))
    def begin(self, claim: Claim, worker: int) -> GrantedClaim:
        expected = self.expected(claim)
        got: ErrorKind | StoredResponse | None = None
        hold = GrantedClaim(claim, b"never granted...")
        try:
            begun = self.run(self.workers[worker].records.begin(claim))
        except GatewayError as error:
            got = error.kind
        else:
            if isinstance(begun, GrantedClaim):
                hold = begun
                self.model[claim.scope] = Running(claim.fingerprint, begun.token)
            else:
                got = begun
        assert got == expected
        return hold

    @rule(
        hold=consumes(holds) | holds,
        size=st.one_of(st.none(), st.sampled_from([0, 7, LIMIT_BYTES, LIMIT_BYTES + 1])),
        worker=st.integers(0, 1),
    )
    def finish(self, hold: GrantedClaim, size: int | None, worker: int) -> None:
        answer = None if size is None else msgspec.structs.replace(ANSWER, body=b"a" * size)
        if hold.token != b"never granted...":
            self.run(self.workers[worker].records.finish(hold, answer))
            if self.ended_by(hold):
                kept = None if size is None or size > LIMIT_BYTES else answer
                self.model[hold.claim.scope] = Done(hold.claim.fingerprint, kept)

    @rule(hold=consumes(holds) | holds, worker=st.integers(0, 1))
    def free(self, hold: GrantedClaim, worker: int) -> None:
        self.run(self.workers[worker].records.free(hold))
        if self.model.get(hold.claim.scope) == Running(hold.claim.fingerprint, hold.token):
            del self.model[hold.claim.scope]

    def ended_by(self, hold: GrantedClaim) -> bool:
        held = self.model.get(hold.claim.scope)
        return held is None or held == Running(hold.claim.fingerprint, hold.token)

    @rule(scope=st.sampled_from(SCOPES))
    def time_runs_out(self, scope: bytes) -> None:
        self.run(self.command("DEL", self.name(scope)))
        self.model.pop(scope, None)

    @rule(scope=st.sampled_from(SCOPES), draw=st.data())
    def tamper(self, scope: bytes, draw: st.DataObject) -> None:
        held = self.model.get(scope)
        if not isinstance(held, Done) or held.answer is None:
            return
        record = self.run(self.command("GET", self.name(scope)))
        assert isinstance(record, bytes)
        place = draw.draw(st.integers(33, len(record) - 1))
        changed = record[:place] + bytes([record[place] ^ 1]) + record[place + 1 :]
        self.run(self.command("SET", self.name(scope), changed))
        claim = next(
            one for one in CLAIMS if (one.scope, one.fingerprint) == (scope, held.fingerprint)
        )
        begun = self.run(self.workers[0].records.begin(claim))
        assert isinstance(begun, GrantedClaim)
        self.run(self.workers[0].records.free(begun))
        del self.model[scope]


def test_records_behave_as_their_model(valkey_url: str) -> None:
    """Whatever happens in whatever order: one run at a time, and an outcome once kept stays."""
    machine = type("Located", (Records,), {"url": valkey_url})

    run_state_machine_as_test(machine, settings=settings(stateful_step_count=40))

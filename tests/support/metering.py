"""Workers' tills on one Redis over a fake SQL, with the time in the tests' hands."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.core.calendar import month_of
from gateway.core.limits import NO_LIMITS, KeyLimits, Limits
from gateway.core.model import CallRecord, Endpoint, Model, Prices, Principal, Usage, Wire
from gateway.core.pricing import cost_nanousd
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Money, Redis, Server, Settings, Sql
from gateway.store.accounts.snapshot import (
    AccountSnapshot,
    AccountSource,
    Position,
    SpendScope,
    Spent,
)
from gateway.store.hot_state.redis_schema import RedisKeys, account_scripts
from gateway.store.limits.metering import Metering
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits, RedisState
from gateway.store.redis.cluster.kinds import cold_client, pipelined_client
from gateway.store.spill.direct import DirectBooking
from gateway.store.sql.database import Database
from gateway.store.usage.sharded.shard_reader import usage_reader
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.metrics import Metrics

NOON_MS = 1_779_019_200_000
"""2026-05-17 12:00:00 UTC."""
PRICES = Prices(
    input=1_000_000, output=1_000_000, cache_read=0, cache_write=0, reasoning=1_000_000,
    cache_write_1h=0,
)  # fmt: skip
"""A nano-dollar for each token that is not from a cache."""
MODEL = Model(
    name="m", aliases=(), display_name="m", created=0, context=1000, max_output=100, prices=PRICES,
    deployments=(),
)  # fmt: skip
PATIENT = RedisLimits(command_timeout_s=10.0)
NOTHING = Usage()
DECODER = msgspec.json.Decoder(CallRecord)
MONEY = Money()
_numbers = itertools.count()


class FakeSql:
    """
    The truth, in dicts: accounts, and the calls that a ledger writer has booked.

    Every booked call moves its account's balance and position, as the real ledger does.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, AccountSnapshot] = {}
        self.calls: dict[str, CallRecord] = {}
        self.away = False
        self.loads = 0

    def put(
        self,
        account_id: str = "acct_1",
        *,
        balance: int = 0,
        credit: int | None = None,
        limits: Limits = NO_LIMITS,
        trusted: bool = False,
    ) -> None:
        """Make or change an account."""
        before = self.accounts.get(account_id)
        self.accounts[account_id] = AccountSnapshot(
            account_id=account_id,
            position=before.position + 1 if before else 1,
            version=before.version + 1 if before else 1,
            balance_nanousd=balance,
            credit_limit_nanousd=credit,
            limits=limits,
            trusted=trusted,
        )

    def credit(self, account_id: str, amount: int) -> None:
        """Top up."""
        self._move(account_id, amount)

    def book(self, event: CallRecord) -> bool:
        """Book one call, or what supersedes it; False if it was booked before."""
        before = self.calls.get(event.request_id)
        if before is not None:
            if before.outcome != "abandoned":
                return False
            if event.outcome == "abandoned" and event.cost_nanousd <= before.cost_nanousd:
                return False
        self.calls[event.request_id] = event
        due = event.cost_nanousd - (before.cost_nanousd if before else 0)
        if due:
            self._move(event.account_id, -due)
        return before is None

    def balance(self, account_id: str = "acct_1") -> int:
        """Return a balance."""
        return self.accounts[account_id].balance_nanousd

    def _move(self, account_id: str, amount: int) -> None:
        state = self.accounts[account_id]
        self.accounts[account_id] = msgspec.structs.replace(
            state,
            position=state.position + 1,
            balance_nanousd=state.balance_nanousd + amount,
        )

    async def load(
        self, account_id: str, scopes: Sequence[SpendScope], *, day: int, month: int
    ) -> AccountSnapshot | None:
        self.loads += 1
        if self.away:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "SQL is away")
        state = self.accounts.get(account_id)
        if state is None:
            return None
        spent = {scope: self._spent(account_id, scope, day) for scope in scopes}
        return msgspec.structs.replace(state, spent=spent)

    async def stored(self, request_ids: Sequence[str]) -> set[str]:
        if self.away:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "SQL is away")
        final = {name for name, call in self.calls.items() if call.outcome != "abandoned"}
        return set(request_ids) & final

    def _spent(self, account_id: str, scope: SpendScope, day: int) -> Spent:
        costs = [
            (call.at_ms // 86_400_000, call.cost_nanousd)
            for call in self.calls.values()
            if call.account_id == account_id
            and scope.key_id in (None, call.key_id)
            and scope.model in (None, call.model)
        ]
        return Spent(
            sum(cost for on, cost in costs if on == day),
            sum(cost for on, cost in costs if month_of(on) == month_of(day)),
            sum(cost for _, cost in costs),
        )


class Clock:
    """Unix milliseconds, set by the test."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class MeteringWorker:
    """One worker's bus and metering."""

    def __init__(
        self,
        url: str,
        sql: AccountSource,
        home: Path,
        *,
        prefix: str = "capio:",
        money: Money = MONEY,
        limits: RedisLimits = PATIENT,
        clock: Clock | None = None,
        database: Database | None = None,
        book_directly_after_s: float = 5.0,
        notices_returns: bool = False,
    ) -> None:
        settings = Settings(
            server=Server(data_dir=str(home)),
            redis=Redis(url=url, key_prefix=prefix),
            sql=Sql(book_directly_after_s=book_directly_after_s),
            money=money,
        )
        self.metrics = Metrics(CollectorRegistry())
        self.bus = pipelined_client(
            parse_address(url),
            limits,
            scripts=account_scripts().all(),
            on_state=self._state_changed if notices_returns else None,
        )
        self.direct = (
            None if database is None else DirectBooking(database.transactions(), self.metrics)
        )
        self.metering = Metering(
            self.bus,
            sql,
            settings,
            self.metrics,
            CallMetrics(self.metrics),
            direct=self.direct,
            now_ms=clock,
        )

    def _state_changed(self, state: RedisState) -> None:
        if state is RedisState.READY:
            self.metering.redis_returned()

    async def start(self) -> None:
        await self.bus.start()

    async def close(self) -> None:
        await self.metering.aclose()
        if self.direct is not None:
            await self.direct.aclose()
        await self.bus.aclose()

    async def reserve(self, request: ReservationRequest) -> Reservation:
        return await self.metering.reservations.reserve(request)

    async def settle_soon(self, reservation: Reservation, usage: Usage) -> CallRecord:
        """End a call without waiting for Redis."""
        event = event_for(reservation.request, usage)
        await self.metering.reservations.settle(reservation, event)
        return event

    async def settle(
        self, reservation: Reservation, usage: Usage = NOTHING, **changes: Any
    ) -> CallRecord:
        event = event_for(reservation.request, usage, **changes)
        await self.metering.reservations.settle(reservation, event)
        await self.metering.journal.settlements.drain()
        return event


class FakeLedger:
    """A ledger writer over the fake SQL; `book` books all waiting events."""

    def __init__(self, url: str, sql: FakeSql, prefix: str = "capio:") -> None:
        self.sql = sql
        self.reader = usage_reader(cold_client(parse_address(url)), prefix, claim_idle_ms=1)

    async def book(self, *, acknowledge: bool = True) -> int:
        """Book what waits; return how many calls were new. Without `acknowledge` it dies then."""
        await self.reader.ensure_group()
        new = 0
        while entries := await self.reader.claim() or await self.reader.read_new(None):
            events = [(entry, DECODER.decode(entry.event or b"")) for entry in entries]
            repeated = {entry for entry, event in events if not self.sql.book(event)}
            new += len(entries) - len(repeated)
            if not acknowledge:
                break
            states = [self.sql.accounts[event.account_id] for _, event in events]
            positions = {
                state.account_id: Position(state.position, state.balance_nanousd)
                for state in states
            }
            await self.reader.acknowledge(entries, positions, repeated)
        return new

    async def close(self) -> None:
        await self.reader.aclose()


class AccountProbe:
    """What Redis holds of an account, seen by a client of its own."""

    def __init__(self, url: str, account_id: str = "acct_1", prefix: str = "capio:") -> None:
        self.client = cold_client(parse_address(url))
        self.names = RedisKeys(prefix).of(account_id)
        self.key = self.names.accounts + account_id.encode()

    async def number(self, field: str) -> int:
        """Return a field, 0 when it is absent."""
        return int(await self.client.hget(self.key, field) or 0)

    async def held(self) -> tuple[int, int]:
        """Return running calls and the money they hold."""
        return await self.number("n"), await self.number("h")

    async def available(self) -> int:
        """Return what may be spent, the credit limit aside."""
        return await self.number("base") - await self.number("pend") - await self.number("h")

    async def leases(self) -> int:
        """Return how many calls run in the account's shard."""
        return int(await self.client.zcard(self.names.leases))

    async def leases_are(self, count: int) -> bool:
        """Return whether as many calls run in the account's shard."""
        return await self.leases() == count

    async def waiting(self) -> list[CallRecord]:
        """Return the events in the stream of the account's shard."""
        entries: Any = await self.client.xrange(self.names.usage)
        return [DECODER.decode(fields[b"e"]) for _, fields in entries]

    async def leftovers(self) -> list[str]:
        """Return the counters of running calls and holds, of any scope, that are not zero."""
        fields: dict[Any, Any] = await self.client.hgetall(self.key)
        return [
            name.decode()
            for name, value in fields.items()
            if (name[:1] in b"nh" or name == b"w") and value != b"0"
        ]

    async def close(self) -> None:
        await self.client.aclose()


def ask_for(
    request_id: str | None = None,
    *,
    account_id: str = "acct_1",
    limits: KeyLimits | None = None,
    input_tokens: int = 10,
    max_tokens: int | None = 20,
    model: Model = MODEL,
    wire: Wire = Wire.OPENAI,
    key_id: str = "key_1",
    version: int = 1,
    choices: int = 1,
    input_bound: int | None = None,
) -> ReservationRequest:
    """Return a call of 10 tokens in and 20 out at most, of a new request id."""
    principal = Principal(key_id, account_id, "laptop", "active", version, limits=limits)
    return ReservationRequest(
        request_id=request_id or f"req_{next(_numbers)}",
        principal=principal,
        model=model,
        endpoint=Endpoint.CHAT_COMPLETIONS,
        client_wire=wire,
        input_tokens=input_tokens,
        max_tokens=max_tokens,
        choices=choices,
        input_bound=lambda: input_bound,
    )


def reports(reservation: Reservation, record: CallRecord) -> CallRecord:
    """Let a running call report `record` as what it has cost so far; return it."""
    reservation.request = msgspec.structs.replace(reservation.request, checkpoint=lambda: record)
    return record


def event_for(request: ReservationRequest, usage: Usage = NOTHING, **changes: Any) -> CallRecord:
    """Return the record of a call, its cost included."""
    given: Mapping[str, Any] = {
        "at_ms": NOON_MS,
        "outcome": "completed",
        "cost_nanousd": cost_nanousd(usage, request.model.prices),
        **changes,
    }
    return CallRecord(
        request_id=request.request_id,
        key_id=request.principal.key_id,
        account_id=request.principal.account_id,
        model=request.model.name,
        endpoint=request.endpoint.value,
        client_wire=request.client_wire.value,
        usage=usage,
        **given,
    )


class MeteringWorld:
    """One worker, its SQL, its ledger, and a clock."""

    def __init__(self, url: str, home: Path, *, money: Money = MONEY) -> None:
        self.prefix = prefix = f"{uuid.uuid4().hex}:"
        self.sql = FakeSql()
        self.clock = Clock()
        self.worker = MeteringWorker(
            url, self.sql, home, prefix=prefix, money=money, clock=self.clock
        )
        self.ledger = FakeLedger(url, self.sql, prefix)
        self.probe = AccountProbe(url, prefix=prefix)
        self.metering = self.worker.metering

    async def close(self) -> None:
        """Close its connections."""
        await self.worker.close()
        await self.ledger.close()
        await self.probe.close()

    async def run(self, usage: Usage = NOTHING, **asked: Any) -> None:
        """Make one whole call."""
        await self.worker.settle(await self.worker.reserve(ask_for(**asked)), usage)

    async def refusal(
        self, request: ReservationRequest | None = None, **asked: Any
    ) -> GatewayError:
        """Make a call that is refused; return why."""
        with pytest.raises(GatewayError) as caught:
            await self.worker.reserve(request or ask_for(**asked))
        return caught.value

    async def reserve(self, **asked: Any) -> Reservation:
        """Begin a call."""
        return await self.worker.reserve(ask_for(**asked))

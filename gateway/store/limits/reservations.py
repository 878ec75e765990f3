"""
Admission and settlement of calls: `ports.Reservations` over the scripts in Redis.

One script admits, one settles, each one round trip. Who settles, and when, in order:

1. `settle`, at the end of the call: exactly one event, in Redis or on disk.
2. If the worker died, the sweeper of another (`sweeper`), when the call's lease has run out: with
   the last checkpoint that `running_calls` sent. Should the worker have been alive after all, the
   real event takes the place of the abandoned one: here while that waits, else in SQL, which books
   the difference.

Redis away: what was asked and not answered may have been admitted. So whoever is refused then is
released with an event-less settlement, which follows on the same connection, or when Redis is back.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from gateway.core.catalogue import nanousd
from gateway.core.limits import (
    UNLIMITED,
    Headroom,
    LimitName,
    LimitScope,
    Refusal,
    Room,
    refusal_error,
)
from gateway.core.model import Endpoint, UsageEvent, Wire
from gateway.core.output_estimate import OutputEstimator
from gateway.core.pricing import dearest_input, most_nanousd, token_count, worst_case_nanousd
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReserveAsk
from gateway.protocols.http.limit_headers import limit_headers
from gateway.settings import Settings
from gateway.store.hot_state.redis_schema import (
    ACCOUNT_SCOPE,
    RedisKeys,
    Row,
    account_scripts,
    key_rows,
    pack,
)
from gateway.store.hot_state.snapshot import SpendScope
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.fallback import FallbackLimiter, LastSeen
from gateway.store.limits.leases import LeaseRenewer, Scopes, scopes_of
from gateway.store.redis.client import RedisClient, RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.usage.journal import UsageStream

_AWAY = (RedisUnavailable, ReplyError)
_LIMITS: Final = (
    None, LimitName.CREDIT, LimitName.BUDGET_TOTAL, LimitName.BUDGET_MONTH, LimitName.BUDGET_DAY,
    LimitName.CONCURRENCY, LimitName.RPM, LimitName.TPM, LimitName.EXPOSURE,
    LimitName.SMALL_BALANCE,
)  # fmt: skip
"""By the number that the script gives them."""
_CREDIT: Final = (1, 8, 9)
"""Those that more credit lifts."""
_SCOPES: Final = {"": LimitScope.ACCOUNT, "k": LimitScope.KEY, "m": LimitScope.KEY_MODEL}
OWED = 10_000
"""Calls to be released that are remembered while Redis is away."""
_ATTEMPTS = 5
_PACKED_ROWS = 50_000
_LEAST_OUTPUT = 64
"""Translators and upstreams raise smaller limits to a floor of theirs."""
_AMPLE = 16
"""An account with room for so many calls of a full context needs no closer bound of their input."""
MOST_NANOUSD = 9_000_000_000_000_000
"""No call counts as dearer: more than any funds, exact in the scripts."""
_KINDS: Final = {
    (endpoint, wire): f"{endpoint.value} {wire.value}".encode()
    for endpoint in Endpoint
    for wire in Wire
}
_Known: TypeAlias = tuple[list[Row], bytes, Scopes]
"""The limits of a key and its model: rows, packed for the script, and for the record."""


class RedisReservations:
    """
    Admits and settles the calls of one worker.

    Args:
        bus: To Redis.
        journal: Takes events, and appends again what Redis loses.
        accounts: Loads accounts.
        running: Hears of every call.
        settings: The `money` section, the key prefix, and the URL that refusals name.
        count: Called with the result of each `reserve`, see `gateway_reservations_total`.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisClient,
        journal: UsageStream,
        accounts: AccountLoader,
        running: LeaseRenewer,
        settings: Settings,
        *,
        count: Callable[[str], None],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._accounts = accounts
        self._running = running
        self._settings = money = settings.money
        self._names = RedisKeys(settings.redis.key_prefix)
        scripts = account_scripts()
        self._reserve = scripts.reserve
        self._release = scripts.settle
        self._top_up = f"{settings.brand.public_url.rstrip('/')}/app/credits"
        self._count = count
        self._now_ms = now_ms
        self._lease_ms = int(money.lease_s * 1000)
        self._refresh_ms = int(money.refresh_s * 1000)
        self._bound = (
            nanousd(money.exposure_floor),
            money.exposure_share,
            nanousd(money.small_balance),
            money.small_concurrency,
        )
        self._output_estimator = OutputEstimator(money.default_output)
        self._local = FallbackLimiter(money.degraded_share)
        self._owed: dict[str, str] = {}
        self._rows: OrderedDict[tuple[str, int, str], _Known] = OrderedDict()
        self._no_rows: _Known = ([], pack([self._bound]), scopes_of([]))

    @property
    def local(self) -> FallbackLimiter:
        """What Redis last said of each account."""
        return self._local

    async def reserve(self, ask: ReserveAsk) -> Reservation:
        """Admit a call, see `ports.Reservations.reserve`."""
        reservation = self._sized(ask)
        rows, packed, scopes = self._rows_of(ask)
        try:
            await self._admit(reservation, rows, packed)
        except asyncio.CancelledError:
            self._undo(ask)
            raise
        except _AWAY:
            self._admit_alone(reservation, rows)
        self._running.add(reservation, scopes)
        return reservation

    async def settle(self, reservation: Reservation, event: UsageEvent) -> None:
        """Settle a call, see `ports.Reservations.settle`."""
        ask = reservation.ask
        self._running.discard(ask.request_id)
        if event.outcome == "completed":
            output = event.usage.output + event.usage.reasoning
            self._output_estimator.observe(event.key_id, event.model, -(-output // ask.choices))
        if reservation.degraded:
            self._local.end(
                ask.request_id,
                cost_nanousd=event.cost_nanousd,
                tokens=token_count(event.usage),
                now_ms=_monotonic_ms(),
            )
        await self._journal.append(event)

    async def release(self, reservation: Reservation) -> None:
        """Release a call without an event, see `ports.Reservations.release`."""
        ask = reservation.ask
        self._running.discard(ask.request_id)
        if reservation.degraded:
            self._local.end(ask.request_id, cost_nanousd=0, tokens=0, now_ms=_monotonic_ms())
        self._undo(ask)

    def _sized(self, ask: ReserveAsk) -> Reservation:
        """Return the call with what it will hold."""
        if ask.endpoint is Endpoint.COUNT_TOKENS:
            return Reservation(ask=ask, hold_nanousd=0, worst_nanousd=0, tokens=0)
        model = ask.model
        longest = model.max_output if ask.max_tokens is None else ask.max_tokens
        output = ask.choices * self._output_estimator.expected(
            ask.principal.key_id, model.name, min(longest, self._settings.output_ceiling)
        )
        hold = min(most_nanousd(ask.input_tokens, output, model.prices), MOST_NANOUSD)
        return Reservation(
            ask=ask,
            hold_nanousd=hold,
            worst_nanousd=max(hold, self._worst_case(ask)),
            tokens=min(ask.input_tokens + output, MOST_NANOUSD),
        )

    def _worst_case(self, ask: ReserveAsk) -> int:
        """Return what the call can cost at most if the upstream honours its limits."""
        model = ask.model
        # A limit of 0 is none to some upstreams. One above `max_output` counts as it is, in case
        # the catalogue is mistaken, up to the context.
        longest = min(max(ask.max_tokens or model.max_output, _LEAST_OUTPUT), model.context)
        output = longest * ask.choices
        context = max(model.context, ask.input_tokens)
        worst = worst_case_nanousd(context, output, model.prices)
        room = self._local.room(ask.principal.account_id)
        if room is not None and room < _AMPLE * worst and dearest_input(model.prices) > 0:
            # Both read the whole body: a fraction of a millisecond in a large one.
            bound = ask.input_bound()
            tokens = context if bound is None else min(context, max(bound, ask.input_tokens))
            worst = worst_case_nanousd(tokens, output, model.prices, hour_cache=ask.hour_cache())
        return min(worst, MOST_NANOUSD)

    async def _admit(self, reservation: Reservation, rows: list[Row], packed: bytes) -> None:
        """Ask Redis until it has what it needs to answer."""
        ask = reservation.ask
        account_id = ask.principal.account_id
        keys, arguments = self._question(reservation, packed)
        for _ in range(_ATTEMPTS):
            reply = cast(
                "list[int | bytes]", await self._bus.script(self._reserve, keys, arguments)
            )
            if reply[0] == 1:
                self._admitted(reservation, reply)
                return
            if reply[0] == 0:
                if reply[1] in _CREDIT and self._accounts.may_ask_again(account_id):
                    await self._accounts.refresh(account_id)
                    continue
                raise self._refused(ask, rows, reply)
            self._journal.observe_epoch(self._names.of(account_id).shard, reply[1])
            try:
                await self._accounts.load(account_id, _scopes(ask, reply[3:]))
            except GatewayError as error:
                if error.kind is not ErrorKind.STORE_UNAVAILABLE:
                    raise
                # Redis is empty and SQL away: as if Redis were away.
                raise RedisUnavailable("lost") from error
        raise RedisUnavailable("lost")

    def _question(
        self, reservation: Reservation, packed: bytes
    ) -> tuple[tuple[bytes, ...], tuple[Argument, ...]]:
        """Return KEYS and ARGV of `lua/reserve.lua`."""
        ask = reservation.ask
        principal = ask.principal
        account_id = principal.account_id
        names = self._names.of(account_id)
        at_ms = time.time_ns() // 1_000_000
        return (
            (names.accounts + account_id.encode(), names.calls, names.leases),
            (
                b"" if self._now_ms is None else self._now_ms(),
                ask.request_id,
                self._lease_ms,
                reservation.hold_nanousd,
                reservation.tokens,
                packed,
                account_id,
                principal.key_id,
                ask.model.name,
                _KINDS[ask.endpoint, ask.client_wire],
                at_ms,
                self._refresh_ms,
                reservation.worst_nanousd,
            ),
        )

    def _admitted(self, reservation: Reservation, reply: list[int | bytes]) -> None:
        account_id = reservation.ask.principal.account_id
        available = None if reply[2] == b"" else int(reply[2])
        room = None if reply[10] == b"" else int(reply[10])
        if reply[9] is not None:
            self._local.saw(account_id, LastSeen(available, cast("bytes", reply[9]), room))
            if room is None:
                reservation.worst_nanousd = reservation.hold_nanousd
        if reply[3] != -1 or reply[6] != -1:
            reservation.headroom = _headroom(reply, 3)
        if reply[1]:
            self._accounts.refresh_soon(account_id)
        self._local.forget()
        if self._owed:
            self.release_owed()
        self._count("admitted")

    def _refused(self, ask: ReserveAsk, rows: list[Row], reply: list[int | bytes]) -> GatewayError:
        """Return the refusal that the script told of."""
        name = _LIMITS[int(reply[1])]
        assert name is not None
        scope = "" if reply[2] == 1 else str(rows[int(reply[2]) - 2][0])[0]
        retry_ms = int(reply[6])
        refusal = Refusal(
            name=name,
            scope=_SCOPES[scope],
            value=int(reply[3]),
            remaining=int(reply[4]),
            asked=int(reply[5]),
            retry_after_ms=retry_ms if retry_ms >= 0 else None,
        )
        self._count(name.value)
        if name is LimitName.CREDIT:
            self._local.saw_available(ask.principal.account_id, refusal.remaining)
        headers = limit_headers(_headroom(reply, 7), ask.client_wire, int(time.time()))
        return refusal_error(refusal, model=ask.model.name, top_up=self._top_up, headers=headers)

    # Without Redis.

    def _admit_alone(self, reservation: Reservation, rows: list[Row]) -> None:
        """Admit by this worker's share of the limits, or refuse."""
        ask = reservation.ask
        if self._settings.degraded == "open" and self._local.admit(
            ask.request_id,
            ask.principal.account_id,
            rows,
            hold_nanousd=reservation.hold_nanousd,
            worst_nanousd=reservation.worst_nanousd,
            tokens=reservation.tokens,
            now_ms=_monotonic_ms(),
        ):
            reservation.degraded = True
            if self._local.room(ask.principal.account_id) is None:
                reservation.worst_nanousd = reservation.hold_nanousd
            self._count("degraded")
            return
        self._undo(ask)
        self._count("unavailable")
        raise GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Limits and credit cannot be checked at the moment. Retry shortly.",
            retry_after_s=1.0,
        )

    def _undo(self, ask: ReserveAsk) -> None:
        """Release what may have been admitted; nobody waits for the answer."""
        self._release_call(ask.request_id, ask.principal.account_id)

    def release_owed(self) -> None:
        """Release again what could not be released: Redis is there."""
        owed = list(self._owed.items())
        self._owed.clear()
        for request_id, account_id in owed:
            self._release_call(request_id, account_id)

    def _release_call(self, request_id: str, account_id: str) -> None:
        names = self._names.of(account_id)
        answer = self._bus.command(
            b"EVALSHA", self._release.sha, 5,
            names.accounts + account_id.encode(), names.calls, names.leases, names.queued,
            names.usage,
            b"" if self._now_ms is None else self._now_ms(),
            request_id, account_id, b"", b"", 0, 0, 0, b"", 0,
        )  # fmt: skip

        def answered(done: asyncio.Future[Reply]) -> None:
            # Beyond OWED calls the leases run out by themselves.
            if not done.cancelled() and done.exception() is not None and len(self._owed) < OWED:
                self._owed[request_id] = account_id

        asyncio.ensure_future(answer).add_done_callback(answered)

    def _rows_of(self, ask: ReserveAsk) -> _Known:
        """Return the limits of a key and its model in their three forms."""
        principal = ask.principal
        if principal.limits is None:
            return self._no_rows
        key = (principal.key_id, principal.version, ask.model.name)
        known = self._rows.get(key)
        if known is None:
            rows = key_rows(principal.key_id, principal.limits, ask.model.name)
            if len(self._rows) >= _PACKED_ROWS:
                self._rows.popitem(last=False)
            known = self._rows[key] = (rows, pack([self._bound, *rows]), scopes_of(rows))
        return known


def _headroom(reply: list[int | bytes], first: int) -> Headroom:
    requests, tokens = int(reply[first]), int(reply[first + 3])
    if requests < 0 and tokens < 0:
        return UNLIMITED
    return Headroom(
        None if requests < 0 else Room(requests, int(reply[first + 1]), int(reply[first + 2])),
        None if tokens < 0 else Room(tokens, int(reply[first + 4]), int(reply[first + 5])),
    )


def _scopes(ask: ReserveAsk, names: list[int | bytes]) -> list[SpendScope]:
    """Return the scopes that the script wants the spending of."""
    key_id = ask.principal.key_id
    found = {
        ACCOUNT_SCOPE: SpendScope(),
        "k": SpendScope(key_id),
        "m": SpendScope(key_id, ask.model.name),
    }
    return [found[cast("bytes", name)[:1].decode()] for name in names]


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000

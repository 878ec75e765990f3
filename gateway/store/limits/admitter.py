"""
Admits calls through `lua/reserve.lua`: those of one loop turn in one script, one round trip each.

A request to the script without a reply may have admitted the call. Such a call is released with a
settlement without an event, sent on the same connection, or again once Redis is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, assert_never, cast

from gateway.core.limits import LimitName, LimitScope, Refusal, refusal_error
from gateway.core.model import Endpoint, Wire
from gateway.core.money import nanousd
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReservationRequest
from gateway.protocols.http.limit_headers import limit_headers
from gateway.settings import Money, Settings
from gateway.store.accounts.snapshot import SpendScope
from gateway.store.hot_state.redis_schema import (
    ACCOUNT_SCOPE,
    LimitRow,
    RedisKeys,
    account_scripts,
    pack,
)
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.fallback import FallbackLimiter, LastSeen
from gateway.store.limits.replies import Admitted, NeedsLoad, Refused, ReserveReply, read_reply
from gateway.store.redis.batches import Failure, Header, ScriptBatches, resolve
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.usage.settlements import Settlements, concerns

MAX_UNRELEASED = 10_000
"""Calls to release that are remembered while Redis is unavailable."""
_ATTEMPTS = 5
_MONEY: Final = (LimitName.CREDIT, LimitName.EXPOSURE, LimitName.SMALL_BALANCE)
"""Limits that more credit raises."""
_SCOPES: Final = {"": LimitScope.ACCOUNT, "k": LimitScope.KEY, "m": LimitScope.KEY_MODEL}
_KINDS: Final = {
    (endpoint, wire): f"{endpoint.value} {wire.value}".encode()
    for endpoint in Endpoint
    for wire in Wire
}


class Admitter(Protocol):
    """Admits calls: through Redis, or by this worker's share of the limits without it."""

    async def admit(
        self, reservation: Reservation, rows: Sequence[LimitRow], packed: bytes
    ) -> None:
        """
        Admit a call and update its reservation.

        Args:
            reservation: The call.
            rows: The limits of its key.
            packed: The same from `pack_rows`.

        Raises:
            GatewayError: The call is refused.
            RedisUnavailable, ReplyError: It may have been admitted; release it.
        """


class RedisAdmitter:
    """
    Admits calls through Redis.

    Args:
        bus: Redis.
        accounts: Loads accounts that Redis lacks.
        fallback: Is given what Redis reports of each account.
        settlements: Of this worker.
        settings: The `money` section, the key prefix, and the URL in refusals.
        observe_epoch: Called with a shard and its epoch, see `UsageStream.observe_epoch`.
        count: Called with the result of each admission.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisBus,
        accounts: AccountLoader,
        fallback: FallbackLimiter,
        settlements: Settlements,
        settings: Settings,
        *,
        observe_epoch: Callable[[int, object], None],
        count: Callable[[str], None],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._accounts = accounts
        self._fallback = fallback
        self._names = RedisKeys(settings.redis.key_prefix)
        self._settlements = settlements
        self._batches = ScriptBatches(
            bus,
            account_scripts().reserve,
            header=self._header,
            read=lambda _, reply: cast("list[Reply]", reply),
        )
        self._top_up = f"{settings.brand.public_url.rstrip('/')}/app/credits"
        self._observe_epoch = observe_epoch
        self._count = count
        self._now_ms = now_ms
        self._lease_ms = int(settings.money.lease_s * 1000)
        self._refresh_ms = int(settings.money.refresh_s * 1000)
        self._unreleased: dict[tuple[str, str], str] = {}
        """Request id and model -> account id."""

    async def admit(
        self, reservation: Reservation, rows: Sequence[LimitRow], packed: bytes
    ) -> None:
        """Run the script, loading what it needs, see `Admitter`."""
        request = reservation.request
        account_id = request.principal.account_id
        arguments = self._arguments(reservation, packed)
        settling = self._settlements.gathered(account_id)
        if request.request_id in settling:  # the release of its last model must not come second
            self._settlements.send(account_id)
        for _ in range(_ATTEMPTS):
            reply = await self._reply(account_id, request.request_id, arguments)
            match reply:
                case Admitted():
                    self._admitted(reservation, reply)
                    return
                case Refused():
                    # The client of a call that has ended may call again before it is settled.
                    if reply.name is not LimitName.RPM and concerns(settling, account_id):
                        self._settlements.send(account_id)
                        settling = {}  # request again once: later settlements are ignored
                        continue
                    if reply.name in _MONEY and self._accounts.may_ask_again(account_id):
                        await self._accounts.refresh(account_id)
                        continue
                    raise self._refusal(request, rows, reply)
                case NeedsLoad():
                    await self._load(request, reply)
                case _:
                    assert_never(reply)
        raise RedisUnavailable("lost")

    async def _reply(
        self, account_id: str, request_id: str, arguments: tuple[Argument, ...]
    ) -> ReserveReply:
        shard = self._names.of(account_id).shard
        asked: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._batches.add(shard, request_id, account_id, arguments, partial(resolve, asked))
        try:
            return read_reply(await asked)
        except asyncio.CancelledError:
            # If it was sent, it precedes its release on the wire; else it must not follow it.
            self._batches.discard(shard, request_id)
            raise

    def release(self, request_id: str, account_id: str, model: str) -> None:
        """Release a call that may have been admitted, without waiting for the reply."""

        def on_reply(result: Reply | Failure) -> None:
            # Beyond MAX_UNRELEASED the calls end when their leases expire.
            failed = isinstance(result, RedisUnavailable | ReplyError)
            if failed and len(self._unreleased) < MAX_UNRELEASED:
                self._unreleased[request_id, model] = account_id

        self._settlements.release(request_id, account_id, model, on_reply)

    def release_pending(self) -> None:
        """Release again the calls whose release failed: Redis is back."""
        pending = list(self._unreleased.items())
        self._unreleased.clear()
        for (request_id, model), account_id in pending:
            self.release(request_id, account_id, model)

    def _header(self, shard: int) -> Header:
        names = self._names.shards[shard]
        now = b"" if self._now_ms is None else self._now_ms()
        return Header(
            (names.calls, names.leases),
            names.accounts,
            (now, names.accounts, self._lease_ms, self._refresh_ms),
        )

    def _arguments(self, reservation: Reservation, packed: bytes) -> tuple[Argument, ...]:
        """Return the arguments of a call for `lua/reserve.lua`."""
        request = reservation.request
        principal = request.principal
        return (
            request.request_id,
            reservation.hold_nanousd,
            reservation.worst_nanousd,
            reservation.tokens,
            packed,
            principal.account_id,
            principal.key_id,
            request.model.name,
            _KINDS[request.endpoint, request.client_wire],
            time.time_ns() // 1_000_000,
        )

    def _admitted(self, reservation: Reservation, reply: Admitted) -> None:
        account_id = reservation.request.principal.account_id
        if reply.account_limits is not None:
            available = None if reply.available == b"" else int(reply.available)
            room = None if reply.room == b"" else int(reply.room)
            self._fallback.saw(account_id, LastSeen(available, reply.account_limits, room))
            if room is None:
                reservation.worst_nanousd = reservation.hold_nanousd
        reservation.headroom = reply.headroom
        if reply.stale:
            self._accounts.refresh_soon(account_id)
        self._fallback.forget(account_id)
        if self._unreleased:
            self.release_pending()
        self._count("admitted")

    async def _load(self, request: ReservationRequest, reply: NeedsLoad) -> None:
        account_id = request.principal.account_id
        self._observe_epoch(self._names.of(account_id).shard, reply.epoch)
        try:
            await self._accounts.load(account_id, _spend_scopes(request, reply.scopes))
        except GatewayError as error:
            if error.kind is not ErrorKind.STORE_UNAVAILABLE:
                raise
            # Redis is empty and SQL is unavailable: as if Redis were unavailable.
            raise RedisUnavailable("lost") from error

    def _refusal(
        self, request: ReservationRequest, rows: Sequence[LimitRow], reply: Refused
    ) -> GatewayError:
        scope = "" if reply.scope == 1 else rows[reply.scope - 2].scope[0]
        refusal = Refusal(
            name=reply.name,
            scope=_SCOPES[scope],
            value=reply.value,
            remaining=reply.remaining,
            asked=reply.asked,
            retry_after_ms=reply.retry_after_ms,
        )
        self._count(refusal.name.value)
        if refusal.name is LimitName.CREDIT:
            self._fallback.saw_available(request.principal.account_id, refusal.remaining)
        headers = limit_headers(reply.headroom, request.client_wire, int(time.time()))
        return refusal_error(
            refusal, model=request.model.name, top_up=self._top_up, headers=headers
        )


def pack_rows(money: Money, rows: Sequence[LimitRow]) -> bytes:
    """Return the bound on debt and the limits of a key for `lua/reserve.lua`."""
    bound = (
        nanousd(money.exposure_floor),
        money.exposure_share,
        nanousd(money.small_balance),
        money.small_concurrency,
    )
    return pack([bound, *rows])


def _spend_scopes(request: ReservationRequest, names: Sequence[bytes]) -> list[SpendScope]:
    key_id = request.principal.key_id
    by_prefix = {
        ACCOUNT_SCOPE: SpendScope(),
        "k": SpendScope(key_id),
        "m": SpendScope(key_id, request.model.name),
    }
    return [by_prefix[name[:1].decode()] for name in names]

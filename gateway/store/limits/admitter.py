"""
Admits calls through `lua/reserve.lua`, one round trip each.

A request to the script without a reply may have admitted the call. Such a call is released with a
settlement without an event, sent on the same connection, or again once Redis is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, assert_never

from gateway.core.catalogue import nanousd
from gateway.core.limits import LimitName, LimitScope, Refusal, refusal_error
from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReserveAsk
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
from gateway.store.limits.replies import Admitted, NeedsLoad, Refused, read_reply
from gateway.store.redis.client import RedisClient, RedisUnavailable
from gateway.store.redis.connection import Argument, Reply

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
        settings: The `money` section, the key prefix, and the URL in refusals.
        observe_epoch: Called with a shard and its epoch, see `UsageStream.observe_epoch`.
        count: Called with the result of each admission.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisClient,
        accounts: AccountLoader,
        fallback: FallbackLimiter,
        settings: Settings,
        *,
        observe_epoch: Callable[[int, object], None],
        count: Callable[[str], None],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._accounts = accounts
        self._fallback = fallback
        self._names = RedisKeys(settings.redis.key_prefix)
        scripts = account_scripts()
        self._reserve = scripts.reserve
        self._settle = scripts.settle
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
        ask = reservation.ask
        account_id = ask.principal.account_id
        keys, arguments = self._script_input(reservation, packed)
        for _ in range(_ATTEMPTS):
            reply = read_reply(await self._bus.script(self._reserve, keys, arguments))
            match reply:
                case Admitted():
                    self._admitted(reservation, reply)
                    return
                case Refused():
                    if reply.name in _MONEY and self._accounts.may_ask_again(account_id):
                        await self._accounts.refresh(account_id)
                        continue
                    raise self._refusal(ask, rows, reply)
                case NeedsLoad():
                    await self._load(ask, reply)
                case _:
                    assert_never(reply)
        raise RedisUnavailable("lost")

    def release(self, request_id: str, account_id: str, model: str) -> None:
        """Release a call that may have been admitted, without waiting for the reply."""
        names = self._names.of(account_id)
        released = self._bus.command(
            b"EVALSHA", self._settle.sha, 5,
            names.accounts + account_id.encode(), names.calls, names.leases, names.queued,
            names.usage,
            b"" if self._now_ms is None else self._now_ms(),
            request_id, account_id, b"", model, 0, 0, 0, b"", 0,
        )  # fmt: skip

        def on_reply(done: asyncio.Future[Reply]) -> None:
            # Beyond MAX_UNRELEASED the calls end when their leases expire.
            failed = not done.cancelled() and done.exception() is not None
            if failed and len(self._unreleased) < MAX_UNRELEASED:
                self._unreleased[request_id, model] = account_id

        asyncio.ensure_future(released).add_done_callback(on_reply)

    def release_pending(self) -> None:
        """Release again the calls whose release failed: Redis is back."""
        pending = list(self._unreleased.items())
        self._unreleased.clear()
        for (request_id, model), account_id in pending:
            self.release(request_id, account_id, model)

    def _script_input(
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

    def _admitted(self, reservation: Reservation, reply: Admitted) -> None:
        account_id = reservation.ask.principal.account_id
        if reply.account_limits is not None:
            available = None if reply.available == b"" else int(reply.available)
            room = None if reply.room == b"" else int(reply.room)
            self._fallback.saw(account_id, LastSeen(available, reply.account_limits, room))
            if room is None:
                reservation.worst_nanousd = reservation.hold_nanousd
        reservation.headroom = reply.headroom
        if reply.stale:
            self._accounts.refresh_soon(account_id)
        self._fallback.forget()
        if self._unreleased:
            self.release_pending()
        self._count("admitted")

    async def _load(self, ask: ReserveAsk, reply: NeedsLoad) -> None:
        account_id = ask.principal.account_id
        self._observe_epoch(self._names.of(account_id).shard, reply.epoch)
        try:
            await self._accounts.load(account_id, _spend_scopes(ask, reply.scopes))
        except GatewayError as error:
            if error.kind is not ErrorKind.STORE_UNAVAILABLE:
                raise
            # Redis is empty and SQL is unavailable: as if Redis were unavailable.
            raise RedisUnavailable("lost") from error

    def _refusal(self, ask: ReserveAsk, rows: Sequence[LimitRow], reply: Refused) -> GatewayError:
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
            self._fallback.saw_available(ask.principal.account_id, refusal.remaining)
        headers = limit_headers(reply.headroom, ask.client_wire, int(time.time()))
        return refusal_error(refusal, model=ask.model.name, top_up=self._top_up, headers=headers)


def pack_rows(money: Money, rows: Sequence[LimitRow]) -> bytes:
    """Return the bound on debt and the limits of a key for `lua/reserve.lua`."""
    bound = (
        nanousd(money.exposure_floor),
        money.exposure_share,
        nanousd(money.small_balance),
        money.small_concurrency,
    )
    return pack([bound, *rows])


def _spend_scopes(ask: ReserveAsk, names: Sequence[bytes]) -> list[SpendScope]:
    key_id = ask.principal.key_id
    by_prefix = {
        ACCOUNT_SCOPE: SpendScope(),
        "k": SpendScope(key_id),
        "m": SpendScope(key_id, ask.model.name),
    }
    return [by_prefix[name[:1].decode()] for name in names]

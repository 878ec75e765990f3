"""
Admission and settlement of calls: `ports.Reservations` over the scripts in Redis.

One script admits the calls of a loop turn, one settles those that ended. A call is settled by the
first of:

1. `settle`, at the end of the call, soon after it returns: one event, in Redis or on disk.
2. If its worker died, the sweeper of another worker, once the call's lease has expired: with the
   last checkpoint that `leases` sent. If the worker was alive after all, its event supersedes the
   abandoned one: in Redis while that waits there, otherwise in SQL, which books the difference.

While Redis is unavailable calls are admitted by this worker alone, see `fallback`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gateway.core.model import CallRecord
from gateway.core.pricing import token_count
from gateway.errors import GatewayError
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Settings
from gateway.store.hot_state.redis_schema import LimitRow, key_rows
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.admitter import Admitter, RedisAdmitter, pack_rows
from gateway.store.limits.fallback import FallbackAdmitter, FallbackLimiter, monotonic_ms
from gateway.store.limits.leases import LeaseRenewer, Scopes, scopes_of
from gateway.store.limits.sizing import ReservationSizer
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.usage.journal import UsageStream

_CACHED_KEYS = 50_000


class _KeyLimits(NamedTuple):
    rows: list[LimitRow]
    packed: bytes
    """For `lua/reserve.lua`."""
    scopes: Scopes
    """For the call's record."""


class RedisReservations:
    """
    Admits and settles the calls of one worker.

    Args:
        bus: Redis.
        journal: Appends events, and resends those that Redis loses.
        accounts: Loads accounts.
        running: Renews the leases of admitted calls.
        workers: Returns how many workers share the limits without Redis; 0: unknown.
        settings: The `money` section, the key prefix, and the URL in refusals.
        count: Called with the result of each `reserve`, see `gateway_reservations_total`.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisBus,
        journal: UsageStream,
        accounts: AccountLoader,
        running: LeaseRenewer,
        workers: Callable[[], int],
        settings: Settings,
        *,
        count: Callable[[str], None],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._journal = journal
        self._running = running
        self._money = settings.money
        self._local = FallbackLimiter(settings.money.degraded_share, workers)
        self._sizer = ReservationSizer(settings.money, self._local.room)
        self._redis = RedisAdmitter(
            bus,
            accounts,
            self._local,
            journal.settlements,
            settings,
            observe_epoch=journal.observe_epoch,
            count=count,
            now_ms=now_ms,
        )
        self._fallback: Admitter = FallbackAdmitter(
            self._local, enabled=settings.money.degraded == "open", count=count
        )
        self._known: OrderedDict[tuple[str, int, str], _KeyLimits] = OrderedDict()
        self._unlimited = self._key_limits([])

    @property
    def local(self) -> FallbackLimiter:
        """What Redis last reported of each account."""
        return self._local

    async def reserve(self, request: ReservationRequest) -> Reservation:
        """Admit a call, see `ports.Reservations.reserve`."""
        reservation = self._sizer.size(request)
        limits = self._limits_of(request)
        is_decided = False
        try:
            await self._redis.admit(reservation, limits.rows, limits.packed)
            is_decided = True
        except asyncio.CancelledError:
            self._release(request)
            raise
        except (RedisUnavailable, ReplyError):
            pass  # the fallback decides
        if not is_decided:
            try:
                await self._fallback.admit(reservation, limits.rows, limits.packed)
            except GatewayError:
                self._release(request)
                raise
        self._running.add(reservation, limits.scopes)
        return reservation

    async def settle(self, reservation: Reservation, event: CallRecord) -> None:
        """Settle a call, see `ports.Reservations.settle`."""
        request = reservation.request
        self._running.discard(request.request_id)
        self._sizer.observe(request, event)
        if reservation.degraded:
            self._local.end(
                request.request_id,
                cost_nanousd=event.cost_nanousd,
                tokens=token_count(event.usage),
                now_ms=monotonic_ms(),
            )
        await self._journal.post(event)
        if reservation.degraded:
            # Redis does not know the call, so that it could not be settled as abandoned.
            self._journal.settlements.send(event.account_id)

    async def release(self, reservation: Reservation) -> None:
        """Release a call without an event, see `ports.Reservations.release`."""
        request = reservation.request
        self._running.discard(request.request_id)
        if reservation.degraded:
            self._local.end(request.request_id, cost_nanousd=0, tokens=0, now_ms=monotonic_ms())
        self._release(request)

    def release_pending(self) -> None:
        """Release again the calls whose release failed: Redis is back."""
        self._redis.release_pending()

    def _release(self, request: ReservationRequest) -> None:
        self._redis.release(request.request_id, request.principal.account_id, request.model.name)

    def _limits_of(self, request: ReservationRequest) -> _KeyLimits:
        principal = request.principal
        if principal.limits is None:
            return self._unlimited
        key = (principal.key_id, principal.version, request.model.name)
        known = self._known.get(key)
        if known is None:
            rows = key_rows(principal.key_id, principal.limits, request.model.name)
            if len(self._known) >= _CACHED_KEYS:
                self._known.popitem(last=False)
            known = self._known[key] = self._key_limits(rows)
        return known

    def _key_limits(self, rows: list[LimitRow]) -> _KeyLimits:
        return _KeyLimits(rows, pack_rows(self._money, rows), scopes_of(rows))

"""Whether an account has credit, according to the last known state or a query."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple, cast

from gateway.core.limits import LimitName, used_up_error
from gateway.errors import ErrorKind, GatewayError
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, RedisKeys
from gateway.store.limits.account_loader import AccountLoader
from gateway.store.limits.fallback import FallbackLimiter, LastSeen
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError

_FIELDS = (b"cr", b"base", b"pend", b"h" + ACCOUNT_SCOPE.encode(), b"lim", b"w")
"""Fields of an account, see `lua/shard.lua`."""


class _Credit(NamedTuple):
    """An account's credit in Redis; None: unlimited."""

    balance_nanousd: int | None
    """Including the credit limit, without deducting holds."""
    available_nanousd: int | None
    limits: bytes
    room_nanousd: int | None
    """What further calls may cost at most, see `lua/reserve.lua`; None: not bounded."""


class RedisCredit:
    """
    `ports.AccountCredit` over the hot state.

    Args:
        bus: Redis.
        accounts: Loads accounts that Redis lacks.
        local: The last known state of each account, which is updated.
        key_prefix: `redis.key_prefix`.
        exposure_floor_nanousd, exposure_share: See `money.exposure_floor` and `exposure_share`.
        top_up: The URL where credit is bought.
        count: Called with each refusal, `credit` or `unavailable`: `gateway_reservations_total`.
    """

    def __init__(
        self,
        bus: RedisBus,
        accounts: AccountLoader,
        local: FallbackLimiter,
        key_prefix: str,
        *,
        exposure_floor_nanousd: int,
        exposure_share: float,
        top_up: str,
        count: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._accounts = accounts
        self._local = local
        self._names = RedisKeys(key_prefix)
        self._exposure_floor = exposure_floor_nanousd
        self._exposure_share = exposure_share
        self._top_up = top_up
        self._count = count
        self._reading: dict[str, asyncio.Task[_Credit | None]] = {}

    def is_known_positive(self, account_id: str) -> bool:
        """Return whether credit was last reported, see `ports.AccountCredit`."""
        seen = self._local.last_seen(account_id)
        return seen is not None and (seen[0] is None or seen[0] > 0)

    async def refusal(self, account_id: str) -> GatewayError | None:
        """Query Redis, see `ports.AccountCredit`. Concurrent queries of an account are shared."""
        reading = self._reading.get(account_id)
        if reading is None:
            reading = asyncio.create_task(self._read(account_id), name="account-credit")
            self._reading[account_id] = reading
            reading.add_done_callback(lambda done: self._ended(account_id, done))
        credit = await asyncio.shield(reading)
        if credit is None:
            return self._refusal_without_redis(account_id)
        balance = credit.balance_nanousd
        if balance is None or balance > 0:
            return None
        self._count(LimitName.CREDIT.value)
        return used_up_error(balance, top_up=self._top_up)

    async def aclose(self) -> None:
        """Cancel running queries. Idempotent."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _refusal_without_redis(self, account_id: str) -> GatewayError | None:
        if self._local.last_seen(account_id) is None:
            return None  # the reservation decides
        self._count("unavailable")
        return GatewayError(
            ErrorKind.STORE_UNAVAILABLE,
            "Limits and credit cannot be checked at the moment. Retry shortly.",
            retry_after_s=1.0,
        )

    def _ended(self, account_id: str, task: asyncio.Task[_Credit | None]) -> None:
        del self._reading[account_id]
        if not task.cancelled():
            task.exception()  # mark as retrieved: all waiters may have been cancelled

    async def _read(self, account_id: str) -> _Credit | None:
        """Return an account's credit, reloaded now and then if used up; None: unavailable."""
        try:
            credit = await self._read_credit(account_id)
            if credit is None:
                await self._accounts.load(account_id)
                credit = await self._read_credit(account_id)
            elif _is_used_up(credit) and self._accounts.may_ask_again(account_id):
                await self._accounts.refresh(account_id)
                credit = await self._read_credit(account_id)
        except (RedisUnavailable, ReplyError):
            return None
        except GatewayError as error:
            if error.kind is not ErrorKind.STORE_UNAVAILABLE:
                raise
            return None
        if credit is not None:
            seen = LastSeen(credit.available_nanousd, credit.limits, credit.room_nanousd)
            self._local.saw(account_id, seen)
        return credit

    async def _read_credit(self, account_id: str) -> _Credit | None:
        """Return an account's credit in Redis; None: Redis lacks the account."""
        key = self._names.of(account_id).accounts + account_id.encode()
        reply = await self._bus.command(b"HMGET", key, *_FIELDS)
        limit, base, waiting, held, limits, running = cast("list[bytes | None]", reply)
        if limit is None:
            return None
        if limit == b"-1":
            return _Credit(None, None, limits or b"", None)
        balance = int(base or 0) + int(limit) - int(waiting or 0)
        room = None
        if not limit.startswith(b"+"):
            room = self._room(balance) - int(running or 0)
        return _Credit(balance, balance - int(held or 0), limits or b"", room)

    def _room(self, funds: int) -> int:
        """Return what all running calls together may cost, as in `lua/reserve.lua`."""
        return funds + max(self._exposure_floor, math.floor(self._exposure_share * funds))


def _is_used_up(credit: _Credit) -> bool:
    return credit.balance_nanousd is not None and credit.balance_nanousd <= 0
